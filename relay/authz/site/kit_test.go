package site_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/site"
)

// endpoint is the endpoint of a site.
type endpoint struct {
	*httptest.Server
	mu       sync.Mutex
	answer   func(w http.ResponseWriter, r *http.Request)
	requests []*http.Request
}

func newEndpoint(t testing.TB, answer func(w http.ResponseWriter, r *http.Request)) *endpoint {
	e := &endpoint{answer: answer}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		e.mu.Lock()
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		e.requests = append(e.requests, r)
		answer := e.answer
		e.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) set(answer func(w http.ResponseWriter, r *http.Request)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = answer
}

func (e *endpoint) asked() []*http.Request {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]*http.Request(nil), e.requests...)
}

// respond returns a fixed response.
func respond(status int, body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func newAuthorizer(t testing.TB, e *endpoint, change func(*site.Settings)) *site.Authorizer {
	t.Helper()
	s := site.DefaultSettings()
	s.URL, s.Cache = e.URL+"/auth/", time.Hour
	if change != nil {
		change(&s)
	}
	a, err := site.NewAuthorizer(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// handshake returns a handshake with headers.
func handshake(headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "https://shop.example.com/ws/orders/1/?token=q", nil)
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	return r
}

func identify(t testing.TB, a relay.Authorizer) relay.Identity {
	t.Helper()
	id, err := a.Authenticate(handshake(login))
	if err != nil {
		t.Fatal(err)
	}
	return id
}
