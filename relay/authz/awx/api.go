package awx

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/internal/pyjson"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/internal/authority"
)

// maxResponse bounds the bytes that are read of a response's headers and of its body.
const maxResponse = 1 << 20

// api sends requests to AWX's HTTP API, a bounded number at a time.
type api struct {
	base    string
	timeout time.Duration
	client  *http.Client
	queue   *authority.Queue
}

// newAPI checks the URL. Its errors do not repeat the URL, which may hold a secret.
func newAPI(s Settings) (*api, error) {
	u, err := url.Parse(s.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && s.Transport == nil {
		return nil, errors.New("auth awx: invalid url; use one such as uwsgi://127.0.0.1:8050 or http://127.0.0.1:8054")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		// Credentials in the URL would authenticate every client.
		return nil, errors.New("auth awx: the url contains a user, query or fragment; " +
			"use one such as http://127.0.0.1:8054, since each client is authenticated by its own credentials")
	}
	concurrency := max(s.Concurrency, 1)
	transport := s.Transport
	if transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.Proxy = nil
		t.MaxIdleConns, t.MaxIdleConnsPerHost = concurrency, concurrency
		t.MaxResponseHeaderBytes = maxResponse
		transport = t
	}
	if s.WrapTransport != nil {
		transport = s.WrapTransport(transport)
	}
	return &api{
		base:    strings.TrimSuffix(s.URL, "/"),
		timeout: s.Timeout,
		client: &http.Client{
			Transport: transport,
			// A redirect would send the client's credentials to another address.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		queue: authority.NewQueue("AWX API", concurrency),
	}, nil
}

func (a *api) close() { a.client.CloseIdleConnections() }

// get requests a path below /api/v2/ with a client's credentials, after waiting for the requester's turn.
func (a *api) get(ctx context.Context, c *credentials, by authority.Requester, path string) (status int, body []byte, err error) {
	release, err := a.queue.Acquire(ctx, by)
	if err != nil {
		return 0, nil, err
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+"/api/v2/"+path, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("AWX API: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "edgerelay")
	// Keeps the request from extending the session (SessionTimeoutMiddleware in awx/main/middleware.py). Without the
	// header, rechecks would keep a user logged in for as long as a page is open.
	req.Header.Set("X-WS-Session-Quiet", "true")
	if c.cookie != "" {
		req.Header.Set("Cookie", c.cookie)
	}
	if c.authorization != "" {
		req.Header.Set("Authorization", c.authorization)
	}
	if c.token != "" {
		req.Header.Set(gatewayHeader, c.token)
	}
	if c.address.IsValid() { // for AWX's log of failed logins; the client's own header is never forwarded
		req.Header.Set("X-Forwarded-For", c.address.WithZone("").String())
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("AWX API: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxResponse))
	if err != nil {
		return 0, nil, fmt.Errorf("AWX API: reading the response to %s: %w", path, err)
	}
	return resp.StatusCode, body, nil
}

// unexpectedStatus returns the error for a response that is neither yes nor no.
func (a *api) unexpectedStatus(path string, status int) error {
	remedy := ""
	if status >= 300 && status < 400 {
		remedy = " (a redirect); check the scheme and address of auth awx"
	}
	return fmt.Errorf("AWX API: %s/api/v2/%s responded %d %s%s", a.base, path, status, http.StatusText(status), remedy)
}

// fetchUser returns the user of credentials, or ErrUnauthenticated.
func (a *api) fetchUser(ctx context.Context, c *credentials, by authority.Requester) (relay.Identity, error) {
	status, body, err := a.get(ctx, c, by, "me/")
	switch {
	case err != nil:
		return relay.Identity{}, err
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return relay.Identity{}, relay.ErrUnauthenticated
	case status != http.StatusOK:
		return relay.Identity{}, a.unexpectedStatus("me/", status)
	}
	var response struct {
		Results []struct {
			ID        json.RawMessage `json:"id"`
			Username  string          `json:"username"`
			Superuser bool            `json:"is_superuser"`
			Auditor   bool            `json:"is_system_auditor"`
		} `json:"results"`
	}
	if err := json.Unmarshal(body, &response); err != nil {
		return relay.Identity{}, fmt.Errorf("AWX API: parsing the response of %s/api/v2/me/: %w", a.base, err)
	}
	if len(response.Results) == 0 {
		return relay.Identity{}, relay.ErrUnauthenticated
	}
	user := response.Results[0]
	id := relay.Identity{Name: user.Username, Credentials: c}
	var number int64
	var text string
	switch {
	case json.Unmarshal(user.ID, &number) == nil && string(user.ID) != "null":
		id.Key = strconv.FormatInt(number, 10)
		id.ID = id.Key
	case json.Unmarshal(user.ID, &text) == nil && text != "":
		id.Key = text
		id.ID = string(pyjson.AppendString(nil, text))
	default:
		return relay.Identity{}, fmt.Errorf("AWX API: the user in the response of %s/api/v2/me/ has no id", a.base)
	}
	switch {
	case user.Superuser:
		id.Kind = relay.Superuser
	case user.Auditor:
		id.Kind = relay.Auditor
	}
	id.Profile = fmt.Sprintf(`{"id": %s, "username": %s, "is_superuser": %t, "is_system_auditor": %t}`,
		id.ID, pyjson.AppendString(nil, user.Username), user.Superuser, user.Auditor)
	return id, nil
}

// canSee reports whether a user of a kind may see the object at path.
func (a *api) canSee(
	ctx context.Context, c *credentials, by authority.Requester, kind relay.Kind, path string,
) (bool, error) {
	switch status, body, err := a.get(ctx, c, by, path); {
	case err != nil:
		return false, err
	case status == http.StatusOK && isHTML(body):
		return false, fmt.Errorf("AWX API: %s/api/v2/%s responded with a page in place of the object; "+
			"let auth awx reach AWX without a login page in between", a.base, path)
	case status == http.StatusOK && !isJSONObject(body):
		return false, fmt.Errorf("AWX API: %s/api/v2/%s responded 200 without the object; "+
			"check that AWX listens at this address", a.base, path)
	case status == http.StatusOK:
		return true, nil
	case status == http.StatusInternalServerError && strings.HasPrefix(path, systemJobs+"/") && kind == relay.User:
		// A denial, not a failure: AWX's SystemJobAccess (awx/main/access.py) has no query for users without the flags
		// of a superuser or auditor.
		return false, nil
	case status == http.StatusForbidden, status == http.StatusNotFound, status == http.StatusUnauthorized:
		return false, nil
	default:
		return false, a.unexpectedStatus(path, status)
	}
}

// isJSONObject reports whether a response begins like a JSON object. A web server without a site for the request may
// also respond 200, with an empty body.
func isJSONObject(body []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(body, "\ufeff \t\r\n"), []byte("{"))
}

// isHTML reports whether a response is a page. A gateway may respond 200 with its login page.
func isHTML(body []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(body, "\ufeff \t\r\n"), []byte("<"))
}
