package doctor

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	slowAWX    = time.Second
	awxTimeout = 10 * time.Second
)

// AWX checks AWX's HTTP API at a URL: whether the API responds, how fast, and whether its cookies have the names that
// the relay looks for. via sends the requests; nil is plain HTTP.
func AWX(ctx context.Context, url, sessionCookie string, via http.RoundTripper) (list []Finding) {
	const check = "awx"
	ctx, cancel := context.WithTimeout(ctx, awxTimeout)
	defer cancel()
	url = strings.TrimSuffix(url, "/")
	me := url + "/api/v2/me/"
	began := time.Now()
	resp, err := get(ctx, me, via)
	if err != nil {
		return []Finding{fail(check, "start AWX's web service, or correct the address: auth awx <url> is uwsgi://… "+
			"for uWSGI's socket, http://… for its http-socket", "%s does not respond: %v", me, err)}
	}
	took := time.Since(began)
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return []Finding{fail(check, "set auth awx to the address of the API itself, with the right scheme",
			"%s redirects to %s", me, resp.Header.Get("Location"))}
	case resp.StatusCode == http.StatusBadRequest:
		return []Finding{fail(check, "add the host of auth awx to ALLOWED_HOSTS in AWX's settings",
			"%s returns 400, as AWX does for a host name that is not allowed", me)}
	case resp.StatusCode == http.StatusOK:
		list = append(list, fail(check, "remove the proxy or AWX's setting that logs in requests without credentials",
			"%s returns 200 without credentials: everybody would be logged in as that user", me))
	case resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden:
		return []Finding{fail(check, "set auth awx <url> to AWX's address",
			"%s returns %s; AWX returns 401 without a login", me, resp.Status)}
	case took > slowAWX:
		list = append(list, warn(check, "find the load on AWX's web service, or raise its number of processes",
			"%s takes %v to respond; every new websocket is delayed by that", url, took.Round(time.Millisecond)))
	default:
		list = append(list, ok(check, "%s responds within %v", url, took.Round(100*time.Microsecond)))
	}
	return append(list, cookies(ctx, url, sessionCookie, via)...)
}

// cookies compares the names of cookies. The login page sets the CSRF cookie, and names the session cookie in a header.
func cookies(ctx context.Context, url, sessionCookie string, via http.RoundTripper) []Finding {
	const check = "cookies"
	resp, err := get(ctx, url+"/api/login/", via)
	if err != nil || resp.StatusCode != http.StatusOK {
		return []Finding{warn(check, "compare SESSION_COOKIE_NAME and CSRF_COOKIE_NAME in AWX's settings "+
			"with session_cookie and csrftoken", "the names of the cookies are unknown, because %s/api/login/ does not respond", url)}
	}
	var list []Finding
	if name := resp.Header.Get("X-Api-Session-Cookie-Name"); name != "" && name != sessionCookie {
		list = append(list, fail(check, "set session_cookie "+name+" in auth awx",
			"AWX's session cookie is %s, but the relay looks for %s", name, sessionCookie))
	}
	for _, c := range resp.Cookies() {
		lower := strings.ToLower(c.Name)
		switch {
		case strings.Contains(lower, "csrf") && c.Name != "csrftoken":
			list = append(list, fail(check, "set CSRF_COOKIE_NAME = 'csrftoken' in AWX's settings, as AWX's pages expect",
				"AWX's CSRF cookie is %s, not csrftoken: the relay rejects every subscription", c.Name))
		case strings.Contains(lower, "session") && c.Name != sessionCookie:
			list = append(list, fail(check, "set session_cookie "+c.Name+" in auth awx",
				"AWX sets the session cookie %s, but the relay looks for %s", c.Name, sessionCookie))
		}
	}
	if list == nil {
		list = append(list, ok(check, "AWX's login page uses the cookies %s and csrftoken", sessionCookie))
	}
	return list
}

// get sends a request without following redirects, and reads the body to its end.
func get(ctx context.Context, url string, via http.RoundTripper) (*http.Response, error) {
	if via == nil {
		via = &http.Transport{Proxy: nil, DisableKeepAlives: true}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json, text/html;q=0.9")
	client := http.Client{
		Transport:     via,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	return resp, nil
}
