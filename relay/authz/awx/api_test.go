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
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

// controller is AWX's HTTP API as far as the authorizer asks it.
type controller struct {
	*httptest.Server

	mu       sync.Mutex
	requests []*http.Request
	answer   http.HandlerFunc
	inside   int // requests under way
	most     int // the greatest number of them so far
}

func newController(t testing.TB, answer http.HandlerFunc) *controller {
	c := &controller{answer: answer}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *controller) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.requests = append(c.requests, r.Clone(r.Context()))
	c.inside++
	c.most = max(c.most, c.inside)
	answer := c.answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.inside--
		c.mu.Unlock()
	}()
	answer(w, r)
}

func (c *controller) become(answer http.HandlerFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = answer
}

// asked returns the paths that were asked for.
func (c *controller) asked() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	paths := []string{}
	for _, r := range c.requests {
		paths = append(paths, r.URL.RequestURI())
	}
	return paths
}

// authorizer asks c, with settings that edit changes.
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

// reply answers everything with one status and body.
func reply(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// user answers /me/ with a user whose id is the JSON value id, and everything else with 200.
func user(id string) http.HandlerFunc {
	return reply(http.StatusOK, `{"count": 1, "results": [{"id": `+id+`, "username": "alice", "is_superuser": false}]}`)
}

// handshake is a request with header lines such as "Cookie: a=b".
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

func TestNobody(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"401":              reply(401, `{"detail": "Authentication credentials were not provided."}`),
		"403":              reply(403, ``),
		"count 0":          reply(200, `{"count": 0, "results": []}`),
		"no results":       reply(200, `{}`),
		"results are null": reply(200, `{"results": null}`),
	} {
		a := newController(t, answer).authorizer(t, nil)
		if id, err := a.Authenticate(handshake(session)); !errors.Is(err, relay.ErrUnauthenticated) {
			t.Errorf("%s: %+v, %v; want nobody", name, id, err)
		}
	}
}

// Without credentials the API is not asked.
func TestNoCredentials(t *testing.T) {
	c := newController(t, user(`1`))
	a := c.authorizer(t, nil)
	for _, r := range []*http.Request{handshake(), handshake("Cookie: csrftoken=x"), handshake("Cookie: ", "Authorization: "), handshake("Cookie: ;; ;")} {
		if _, err := a.Authenticate(r); !errors.Is(err, relay.ErrUnauthenticated) {
			t.Errorf("%v: %v", r.Header, err)
		}
	}
	if asked := c.asked(); len(asked) > 0 {
		t.Errorf("asked for %q", asked)
	}
}

// An answer that cannot be understood is an error: neither a user nor nobody.
func TestAnswersThatSayNothing(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"500": reply(500, `{"results": [{"id": 1}]}`),
		"502": reply(502, `<html>`),
		"204": reply(204, ``),
		"301": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere/", http.StatusMovedPermanently)
		},
		"302 to a login":  func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login/", http.StatusFound) },
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
		if id, err := a.Authenticate(handshake(session)); err == nil || errors.Is(err, relay.ErrUnauthenticated) || id.ID != "" {
			t.Errorf("%s: %+v, %v; want another error and no user", name, id, err)
		}
	}
}

// endless writes until nobody reads any more.
func endless(w io.Writer, begin string) {
	_, err := io.WriteString(w, begin)
	for junk := strings.Repeat("x", 64<<10); err == nil; {
		_, err = io.WriteString(w, junk)
	}
}

// A redirect is not followed: credentials go nowhere else.
func TestRedirectsAreNotFollowed(t *testing.T) {
	thief := newController(t, user(`1`))
	c := newController(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, thief.URL, http.StatusTemporaryRedirect)
	})
	_, err := c.authorizer(t, nil).Authenticate(handshake(session, "Authorization: Bearer t"))
	if err == nil || !strings.Contains(err.Error(), "redirects") {
		t.Errorf("%v; want to be told of the redirect", err)
	}
	if asked := thief.asked(); len(asked) > 0 {
		t.Errorf("the redirect was followed: %q", asked)
	}
}

func TestSlowAPI(t *testing.T) {
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

// An API that begins its answer and then trickles is given up, too.
func TestTricklingAPI(t *testing.T) {
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

func TestAPIThatIsDown(t *testing.T) {
	c := newController(t, user(`1`))
	a := c.authorizer(t, nil)
	c.Close()
	if _, err := a.Authenticate(handshake(session)); err == nil || errors.Is(err, relay.ErrUnauthenticated) {
		t.Errorf("%v; want an error of the API", err)
	}
	err := a.Authorize(t.Context(), relay.Identity{Credentials: nil}, "job_events", "1")
	if !errors.Is(err, relay.ErrDenied) {
		t.Errorf("a stranger's credentials: %v", err)
	}
}

// What the API is sent: the client's own credentials, and no other header of the client.
func TestWhatTheAPISees(t *testing.T) {
	c := newController(t, user(`1`))
	a := c.authorizer(t, nil)
	r := handshake("Cookie: sso=s1; csrftoken=c1", "Cookie: other=2", "Authorization: Bearer abc",
		"X-Forwarded-For: 6.6.6.6", "X-Forwarded-User: admin", "Remote-User: admin", "Host: evil", "Accept: text/html", "Range: bytes=0-1",
		"Transfer-Encoding: chunked", "Content-Length: 5", "Connection: Upgrade")
	r.Host = "evil.example"
	if _, err := a.Authenticate(r); err != nil {
		t.Fatal(err)
	}
	got := c.requests[0]
	if got.Method != http.MethodGet || got.URL.RequestURI() != "/api/v2/me/" || "http://"+got.Host != c.URL || got.ContentLength != 0 {
		t.Errorf("%s %s of %s, %d bytes", got.Method, got.URL.RequestURI(), got.Host, got.ContentLength)
	}
	want := http.Header{
		"Cookie": {"sso=s1; csrftoken=c1; other=2"}, "Authorization": {"Bearer abc"},
		"X-Forwarded-For": {"192.0.2.1"}, // the client's address, whatever it says itself
		"Accept":          {"application/json"}, "User-Agent": {"edgerelay"}, "Accept-Encoding": {"gzip"},
		"X-Ws-Session-Quiet": {"true"}, // or AWX's login would begin anew with each question
	}
	if fmt.Sprint(got.Header) != fmt.Sprint(want) {
		t.Errorf("headers %v, want %v", got.Header, want)
	}
}

// Line breaks in credentials, which no server lets through, do not become headers of ours.
func TestHeaderInjection(t *testing.T) {
	c := newController(t, user(`1`))
	a := c.authorizer(t, nil)
	for _, line := range []string{"Cookie: awx_sessionid=s\r\nX-Evil: 1", "Authorization: Bearer x\nX-Evil: 1", "Cookie: awx_sessionid=s\x00"} {
		if id, err := a.Authenticate(handshake(line)); err == nil {
			t.Errorf("%q was taken as %+v", line, id)
		}
	}
	if asked := c.asked(); len(asked) > 0 {
		t.Errorf("asked for %q", asked)
	}
}

func TestLongCredentials(t *testing.T) {
	c := newController(t, user(`1`))
	a := c.authorizer(t, nil)
	if _, err := a.Authenticate(handshake("Cookie: awx_sessionid=" + strings.Repeat("x", 8<<10))); err != nil {
		t.Error(err)
	}
	if _, err := a.Authenticate(handshake("Cookie: awx_sessionid=" + strings.Repeat("x", 1<<20))); err == nil || errors.Is(err, relay.ErrUnauthenticated) {
		t.Errorf("%v; want to be told that the cookies are too long", err)
	}
	if asked := c.asked(); len(asked) != 1 {
		t.Errorf("asked %d times", len(asked))
	}
}

func TestURLs(t *testing.T) {
	for _, u := range []string{
		"", "127.0.0.1:8054", "//host", "ftp://host", "http://", "http:///path", "unix:///run/awx.sock", "http://host:port", "http://ho st",
		"http://svc:hunter2@host", "http://svc@host", "http://host/?token=hunter2", "http://host/#hunter2", "http://svc:hunter2@host:port",
	} {
		s := awx.DefaultSettings()
		s.URL = u
		a, err := awx.NewAuthorizer(s)
		if err == nil {
			a.Close()
			t.Errorf("%q is taken as an address", u)
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
		if want := strings.TrimSuffix(path, "/") + "/api/v2/me/"; c.asked()[0] != want {
			t.Errorf("base path %q: asked for %s, want %s", path, c.asked()[0], want)
		}
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	relaytest.Eventually(t, what, ok)
}
