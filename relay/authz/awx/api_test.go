package awx_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/awx"
)

// controller is a fake of AWX's HTTP API.
type controller struct {
	*httptest.Server

	mu       sync.Mutex
	requests []*http.Request
	handler  http.HandlerFunc
	inFlight int
	peak     int // most requests in flight so far
}

func newController(t testing.TB, handler http.HandlerFunc) *controller {
	c := &controller{handler: handler}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *controller) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.requests = append(c.requests, r.Clone(r.Context()))
	c.inFlight++
	c.peak = max(c.peak, c.inFlight)
	handler := c.handler
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.inFlight--
		c.mu.Unlock()
	}()
	handler(w, r)
}

// setHandler changes the behavior from now on.
func (c *controller) setHandler(handler http.HandlerFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handler = handler
}

// requested returns the paths of all requests so far.
func (c *controller) requested() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	paths := []string{}
	for _, r := range c.requests {
		paths = append(paths, r.URL.RequestURI())
	}
	return paths
}

// authorizer returns an authorizer that uses c. edit changes its settings.
func (c *controller) authorizer(t testing.TB, edit func(*awx.Settings)) *awx.Authorizer {
	t.Helper()
	s := awx.DefaultSettings()
	s.URL = c.URL
	if edit != nil {
		edit(&s)
	}
	a, err := awx.NewAuthorizer(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// reply returns one response to every request.
func reply(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// user returns a handler whose /me/ has a user with the JSON value id as its id. Other paths get 200, too.
func user(id string) http.HandlerFunc {
	return reply(http.StatusOK, `{"count": 1, "results": [{"id": `+id+`, "username": "alice", "is_superuser": false}]}`)
}

// handshake returns a request with header lines such as "Cookie: a=b".
func handshake(lines ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/websocket/", nil)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	return r
}

const session = "Cookie: awx_sessionid=s1; csrftoken=c1"

func TestIdentity(t *testing.T) {
	for _, c := range []struct {
		answer  http.HandlerFunc
		id, key string
	}{
		{user(`42`), `42`, "42"},
		{user(`0`), `0`, "0"},
		{user(`9007199254740993`), `9007199254740993`, "9007199254740993"},
		{user(`"a-b"`), `"a-b"`, "a-b"},
		{user(`"\"}\n\u00e4"`), `"\"}\n\u00e4"`, "\"}\nä"},
		{reply(200, `{"results": [{"id": 7}]}`), `7`, "7"},
		{reply(200, `{"results": [{"id": 7}, {"id": 8}]}`), `7`, "7"},
	} {
		a := newController(t, c.answer).authorizer(t, nil)
		id, err := a.Authenticate(handshake(session))
		if err != nil || id.ID != c.id || id.Key != c.key {
			t.Errorf("%+v, %v; want id %s, key %q", id, err, c.id, c.key)
		}
	}
}

func TestUnauthenticatedResponses(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"401":              reply(401, `{"detail": "Authentication credentials were not provided."}`),
		"403":              reply(403, ``),
		"count 0":          reply(200, `{"count": 0, "results": []}`),
		"no results":       reply(200, `{}`),
		"results are null": reply(200, `{"results": null}`),
	} {
		a := newController(t, answer).authorizer(t, nil)
		if id, err := a.Authenticate(handshake(session)); !errors.Is(err, relay.ErrUnauthenticated) {
			t.Errorf("%s: %+v, %v; want ErrUnauthenticated", name, id, err)
		}
	}
}

// A handshake without credentials causes no request.
func TestNoCredentials(t *testing.T) {
	c := newController(t, user(`1`))
	a := c.authorizer(t, nil)
	for _, r := range []*http.Request{
		handshake(), handshake("Cookie: csrftoken=x"), handshake("Cookie: ", "Authorization: "),
		handshake("Cookie: ;; ;"),
	} {
		if _, err := a.Authenticate(r); !errors.Is(err, relay.ErrUnauthenticated) {
			t.Errorf("%v: %v", r.Header, err)
		}
	}
	if paths := c.requested(); len(paths) > 0 {
		t.Errorf("requested %q", paths)
	}
}

// A response that is neither a user nor a rejection is an error.
func TestInconclusiveResponses(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"500": reply(500, `{"results": [{"id": 1}]}`),
		"502": reply(502, `<html>`),
		"204": reply(204, ``),
		"301": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere/", http.StatusMovedPermanently)
		},
		"302 to a login": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/login/", http.StatusFound)
		},
		"404":             reply(404, ``),
		"429":             reply(429, ``),
		"empty":           reply(200, ``),
		"html":            reply(200, `<!DOCTYPE html>`),
		"list":            reply(200, `[1]`),
		"number":          reply(200, `1`),
		"cut off":         reply(200, `{"results": [{"id": 1`),
		"two documents":   reply(200, `{"results": [{"id": 1}]}{"results": []}`),
		"id null":         user(`null`),
		"no id":           reply(200, `{"results": [{"username": "x"}]}`),
		"id empty":        user(`""`),
		"id is a list":    user(`[1]`),
		"id is an object": user(`{}`),
		"id 1.5":          user(`1.5`),
		"id true":         user(`true`),
		"id of 30 digits": user(strings.Repeat("9", 30)),
		"results object":  reply(200, `{"results": {"id": 1}}`),
		"results strings": reply(200, `{"results": ["admin"]}`),
		"username number": reply(200, `{"results": [{"id": 1, "username": 5}]}`),
		"deep":            reply(200, strings.Repeat(`{"results":`, 100_000)),
		"huge":            func(w http.ResponseWriter, _ *http.Request) { endless(w, `{"results": [{"id": 1, "username": "`) },
		"breaks off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "500")
			_, _ = io.WriteString(w, `{"results": [{"id": 1}]}`)
		},
		"hangs up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		a := newController(t, answer).authorizer(t, nil)
		id, err := a.Authenticate(handshake(session))
		if err == nil || errors.Is(err, relay.ErrUnauthenticated) || id.ID != "" {
			t.Errorf("%s: %+v, %v; want an error of the API and no user", name, id, err)
		}
	}
}

// endless writes until the reader hangs up.
func endless(w io.Writer, begin string) {
	_, err := io.WriteString(w, begin)
	for junk := strings.Repeat("x", 64<<10); err == nil; {
		_, err = io.WriteString(w, junk)
	}
}

// A redirect is not followed, since it would send the credentials elsewhere.
func TestRedirectsAreNotFollowed(t *testing.T) {
	other := newController(t, user(`1`))
	c := newController(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	_, err := c.authorizer(t, nil).Authenticate(handshake(session, "Authorization: Bearer t"))
	if err == nil || !strings.Contains(err.Error(), "a redirect") {
		t.Errorf("%v; want an error that names the redirect", err)
	}
	if paths := other.requested(); len(paths) > 0 {
		t.Errorf("the redirect was followed: %q", paths)
	}
}

func TestSlowAPITimesOut(t *testing.T) {
	release := make(chan struct{})
	c := newController(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	a := c.authorizer(t, func(s *awx.Settings) { s.Timeout = 50 * time.Millisecond })
	if _, err := a.Authenticate(handshake(session)); err == nil || errors.Is(err, relay.ErrUnauthenticated) {
		t.Errorf("%v; want an error of the API", err)
	}
}

// The timeout covers the body, too.
func TestTricklingResponseTimesOut(t *testing.T) {
	c := newController(t, func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_, _ = io.WriteString(w, " ")
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	a := c.authorizer(t, func(s *awx.Settings) { s.Timeout = 50 * time.Millisecond })
	if _, err := a.Authenticate(handshake(session)); err == nil || errors.Is(err, relay.ErrUnauthenticated) {
		t.Errorf("%v; want an error of the API", err)
	}
}

func TestUnreachableAPI(t *testing.T) {
	c := newController(t, user(`1`))
	a := c.authorizer(t, nil)
	c.Close()
	if _, err := a.Authenticate(handshake(session)); err == nil || errors.Is(err, relay.ErrUnauthenticated) {
		t.Errorf("%v; want an error of the API", err)
	}
	err := a.Authorize(t.Context(), relay.Identity{Credentials: nil}, "job_events-1")
	if !errors.Is(err, relay.ErrDenied) {
		t.Errorf("credentials of another authorizer: %v, want ErrDenied", err)
	}
}

// Requests carry the client's credentials, and no other header of the client.
func TestRequestHeaders(t *testing.T) {
	c := newController(t, user(`1`))
	a := c.authorizer(t, nil)
	r := handshake("Cookie: sso=s1; csrftoken=c1", "Cookie: other=2", "Authorization: Bearer abc",
		"X-Forwarded-For: 6.6.6.6", "X-Forwarded-User: admin", "Remote-User: admin", "Host: evil",
		"Accept: text/html", "Range: bytes=0-1", "Transfer-Encoding: chunked", "Content-Length: 5", "Connection: Upgrade")
	r.Host = "evil.example"
	if _, err := a.Authenticate(r); err != nil {
		t.Fatal(err)
	}
	got := c.requests[0]
	if got.Method != http.MethodGet || got.URL.RequestURI() != "/api/v2/me/" || "http://"+got.Host != c.URL ||
		got.ContentLength != 0 {
		t.Errorf("%s %s of %s, %d bytes", got.Method, got.URL.RequestURI(), got.Host, got.ContentLength)
	}
	want := http.Header{
		"Cookie": {"sso=s1; csrftoken=c1; other=2"}, "Authorization": {"Bearer abc"},
		"X-Forwarded-For": {"192.0.2.1"}, // the peer address, not the client's header
		"Accept":          {"application/json"}, "User-Agent": {"edgerelay"}, "Accept-Encoding": {"gzip"},
		"X-Ws-Session-Quiet": {"true"}, // keeps the request from extending the session
	}
	if fmt.Sprint(got.Header) != fmt.Sprint(want) {
		t.Errorf("headers %v, want %v", got.Header, want)
	}
}

// Line breaks in credentials do not become headers. (No web server accepts them in the first place.)
func TestHeaderInjection(t *testing.T) {
	c := newController(t, user(`1`))
	a := c.authorizer(t, nil)
	for _, line := range []string{
		"Cookie: awx_sessionid=s\r\nX-Evil: 1", "Authorization: Bearer x\nX-Evil: 1", "Cookie: awx_sessionid=s\x00",
	} {
		if id, err := a.Authenticate(handshake(line)); err == nil {
			t.Errorf("%q was accepted as %+v", line, id)
		}
	}
	if paths := c.requested(); len(paths) > 0 {
		t.Errorf("requested %q", paths)
	}
}

func TestLongCredentialsAreRejected(t *testing.T) {
	c := newController(t, user(`1`))
	a := c.authorizer(t, nil)
	if _, err := a.Authenticate(handshake("Cookie: awx_sessionid=" + strings.Repeat("x", 8<<10))); err != nil {
		t.Error(err)
	}
	_, err := a.Authenticate(handshake("Cookie: awx_sessionid=" + strings.Repeat("x", 1<<20)))
	if err == nil || errors.Is(err, relay.ErrUnauthenticated) {
		t.Errorf("%v; want an error that names the length", err)
	}
	if paths := c.requested(); len(paths) != 1 {
		t.Errorf("requested %q, want one request", paths)
	}
}

func TestURLs(t *testing.T) {
	for _, u := range []string{
		"", "127.0.0.1:8054", "//host", "ftp://host", "http://", "http:///path", "unix:///run/awx.sock",
		"http://host:port", "http://ho st", "http://svc:hunter2@host", "http://svc@host", "http://host/?token=hunter2",
		"http://host/#hunter2", "http://svc:hunter2@host:port",
	} {
		s := awx.DefaultSettings()
		s.URL = u
		a, err := awx.NewAuthorizer(s)
		if err == nil {
			a.Close()
			t.Errorf("%q was accepted as a URL", u)
		} else if !strings.Contains(err.Error(), "http://127.0.0.1:8054") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", u, err)
		}
	}
	for _, path := range []string{"", "/", "/awx", "/awx/"} {
		c := newController(t, user(`1`))
		a := c.authorizer(t, func(s *awx.Settings) { s.URL = c.URL + path })
		if _, err := a.Authenticate(handshake(session)); err != nil {
			t.Error(err)
		}
		if want := strings.TrimSuffix(path, "/") + "/api/v2/me/"; c.requested()[0] != want {
			t.Errorf("base path %q: requested %s, want %s", path, c.requested()[0], want)
		}
	}
}
