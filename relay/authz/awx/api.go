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
	"github.com/edgerelay/edgerelay/relay/internal/fairqueue"
)

// maxAnswer is how much of an answer is read.
const maxAnswer = 1 << 20

// api asks AWX's HTTP API, a bounded number of questions at a time.
type api struct {
	base    string
	timeout time.Duration
	client  *http.Client
	queue   *fairqueue.Queue
}

func newAPI(s Settings) (*api, error) {
	u, err := url.Parse(s.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && s.Transport == nil {
		// Not repeated: it may hold a secret.
		return nil, errors.New("auth awx: the url is not the address of an HTTP API; write it like uwsgi://127.0.0.1:8050 or http://127.0.0.1:8054")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		// A user there would be the identity of every client.
		return nil, errors.New("auth awx: the url must have no user, query or fragment: each client is asked for with its own credentials; write it like http://127.0.0.1:8054")
	}
	concurrency := max(s.Concurrency, 1)
	transport := s.Transport
	if transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.Proxy = nil
		t.MaxIdleConns, t.MaxIdleConnsPerHost = concurrency, concurrency
		t.MaxResponseHeaderBytes = maxAnswer
		transport = t
	}
	if s.Wrap != nil {
		transport = s.Wrap(transport)
	}
	return &api{
		base:    strings.TrimSuffix(s.URL, "/"),
		timeout: s.Timeout,
		client: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		queue: fairqueue.New(concurrency, classes...),
	}, nil
}

func (a *api) close() { a.client.CloseIdleConnections() }

// get asks for a path below /api/v2/ with a client's credentials, when it is its turn.
func (a *api) get(ctx context.Context, c *credentials, t turn, path string) (status int, body []byte, err error) {
	release, err := a.wait(ctx, t)
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
	// Every other request makes AWX's SessionTimeoutMiddleware (awx/main/middleware.py) begin the login's time anew: a page that is only open would
	// keep it for ever.
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
	if c.address.IsValid() { // for AWX's record of failed logins; never what the client itself says
		req.Header.Set("X-Forwarded-For", c.address.WithZone("").String())
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("AWX API: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, nil, fmt.Errorf("AWX API: reading the answer to %s: %w", path, err)
	}
	return resp.StatusCode, body, nil
}

// unexpected is the error for an answer that says neither yes nor no.
func (a *api) unexpected(path string, status int) error {
	hint := ""
	if status >= 300 && status < 400 {
		hint = "; it redirects: is this the right scheme and address for auth awx?"
	}
	return fmt.Errorf("AWX API: %s/api/v2/%s answered %d %s%s", a.base, path, status, http.StatusText(status), hint)
}

// me finds out who the credentials belong to.
func (a *api) me(ctx context.Context, c *credentials, t turn) (relay.Identity, error) {
	status, body, err := a.get(ctx, c, t, "me/")
	switch {
	case err != nil:
		return relay.Identity{}, err
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return relay.Identity{}, relay.ErrUnauthenticated
	case status != http.StatusOK:
		return relay.Identity{}, a.unexpected("me/", status)
	}
	var answer struct {
		Results []struct {
			ID        json.RawMessage `json:"id"`
			Username  string          `json:"username"`
			Superuser bool            `json:"is_superuser"`
			Auditor   bool            `json:"is_system_auditor"`
		} `json:"results"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return relay.Identity{}, fmt.Errorf("AWX API: the answer of %s/api/v2/me/ is not what AWX sends: %w", a.base, err)
	}
	if len(answer.Results) == 0 {
		return relay.Identity{}, relay.ErrUnauthenticated
	}
	user := answer.Results[0]
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
		return relay.Identity{}, fmt.Errorf("AWX API: %s/api/v2/me/ names a user without an id", a.base)
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

// sees finds out whether a user of a kind may see an object.
func (a *api) sees(ctx context.Context, c *credentials, t turn, kind relay.Kind, resource, id string) (bool, error) {
	path := resource + "/" + id + "/"
	switch status, body, err := a.get(ctx, c, t, path); {
	case err != nil:
		return false, err
	case status == http.StatusOK && isPage(body):
		return false, fmt.Errorf("AWX API: %s/api/v2/%s answered with a page in place of the object: is it one to log in, before the API?", a.base, path)
	case status == http.StatusOK && !isObject(body):
		return false, fmt.Errorf("AWX API: %s/api/v2/%s answered 200 without the object: is it AWX that answers there?", a.base, path)
	case status == http.StatusOK:
		return true, nil
	case status == http.StatusInternalServerError && resource == systemJobs && kind == relay.User:
		// Not trouble but a no: AWX's SystemJobAccess (awx/main/access.py) lacks the query for users who are neither
		// superuser nor auditor.
		return false, nil
	case status == http.StatusForbidden, status == http.StatusNotFound, status == http.StatusUnauthorized:
		return false, nil
	default:
		return false, a.unexpected(path, status)
	}
}

// isObject tells whether an answer is a JSON object, as far as its beginning tells. A web server that has no site for
// the request may answer 200, too, with nothing.
func isObject(body []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(body, "\ufeff \t\r\n"), []byte("{"))
}

// isPage tells whether an answer is a page: a gateway before the API may say 200 and ask to log in.
func isPage(body []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(body, "\ufeff \t\r\n"), []byte("<"))
}
