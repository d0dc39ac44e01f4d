package doctor

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	awxSlow = time.Second
	awxWait = 10 * time.Second
)

// AWX checks whether AWX's HTTP API answers at a URL, how fast, and whether its cookies have the names that the relay looks for.
// via carries the requests; nil: plain HTTP.
func AWX(ctx context.Context, url, sessionCookie string, via http.RoundTripper) (list []Finding) {
	const check = "awx"
	ctx, cancel := context.WithTimeout(ctx, awxWait)
	defer cancel()
	url = strings.TrimSuffix(url, "/")
	began := time.Now()
	resp, err := get(ctx, url+"/api/v2/me/", via)
	if err != nil {
		return []Finding{fail(check, "is AWX's web service running, and is this its address? auth awx <url> is uwsgi://… for uWSGI's socket, http://… for its http-socket", "%s/api/v2/me/ does not answer: %v", url, err)}
	}
	took := time.Since(began)
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return []Finding{fail(check, "write the address where the API itself answers into auth awx, with the right scheme", "%s/api/v2/me/ redirects to %s", url, resp.Header.Get("Location"))}
	case resp.StatusCode == http.StatusBadRequest:
		return []Finding{fail(check, "add the host of auth awx to ALLOWED_HOSTS in AWX's settings",
			"%s/api/v2/me/ answers 400, as AWX does for a host name that it does not allow", url)}
	case resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden && resp.StatusCode != http.StatusOK:
		return []Finding{fail(check, "is this AWX's address? auth awx <url>", "%s/api/v2/me/ answers %s; AWX answers 401 to somebody who is not logged in", url, resp.Status)}
	case resp.StatusCode == http.StatusOK:
		list = append(list, fail(check, "AWX must not take somebody without cookies for a user: is a proxy in between that logs everybody in?", "%s/api/v2/me/ answers 200 without any credentials: everybody would be that user", url))
	case took > awxSlow:
		list = append(list, warn(check, "look what keeps AWX's web service busy; raise its number of processes", "%s takes %v to answer; each websocket waits for that", url, took.Round(time.Millisecond)))
	default:
		list = append(list, ok(check, "%s answers within %v", url, took.Round(100*time.Microsecond)))
	}
	return append(list, cookies(ctx, url, sessionCookie, via)...)
}

// cookies looks at the login page, where Django sets the CSRF cookie and AWX names the session cookie.
func cookies(ctx context.Context, url, sessionCookie string, via http.RoundTripper) []Finding {
	const check = "cookies"
	resp, err := get(ctx, url+"/api/login/", via)
	if err != nil || resp.StatusCode != http.StatusOK {
		return []Finding{warn(check, "compare SESSION_COOKIE_NAME and CSRF_COOKIE_NAME in AWX's settings with session_cookie and csrftoken", "%s/api/login/ does not answer, so the cookies' names are not known", url)}
	}
	var list []Finding
	if name := resp.Header.Get("X-Api-Session-Cookie-Name"); name != "" && name != sessionCookie {
		list = append(list, fail(check, "write session_cookie "+name+" into auth awx", "AWX's session cookie is %s, the relay looks for %s", name, sessionCookie))
	}
	for _, c := range resp.Cookies() {
		lower := strings.ToLower(c.Name)
		switch {
		case strings.Contains(lower, "csrf") && c.Name != "csrftoken":
			list = append(list, fail(check, "set CSRF_COOKIE_NAME = 'csrftoken' in AWX's settings: its own browser code looks for that, too", "AWX's CSRF cookie is %s, not csrftoken: every subscription is refused", c.Name))
		case strings.Contains(lower, "session") && c.Name != sessionCookie:
			list = append(list, fail(check, "write session_cookie "+c.Name+" into auth awx", "AWX sets the session cookie %s, the relay looks for %s", c.Name, sessionCookie))
		}
	}
	if list == nil {
		list = append(list, ok(check, "%s and csrftoken are AWX's, too, as far as its login page tells", sessionCookie))
	}
	return list
}

func get(ctx context.Context, url string, via http.RoundTripper) (*http.Response, error) {
	if via == nil {
		via = &http.Transport{Proxy: nil, DisableKeepAlives: true}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json, text/html;q=0.9")
	client := http.Client{Transport: via, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	return resp, nil
}
