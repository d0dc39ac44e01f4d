package site_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/site"
)

const login = "Cookie: sessionid=alice; theme=dark"

func TestAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		id     string // empty: an error
		denied bool   // the error is ErrUnauthenticated
		groups []string
	}{
		"number":             {200, `{"user": 7, "groups": ["a", "b-*"]}`, "7", false, []string{"a", "b-1"}},
		"text":               {200, `{"user": "ann", "groups": ["a"]}`, `"ann"`, false, []string{"a"}},
		"object":             {200, `{"user": {"id": 7, "name": "Ann", "team": "x"}, "groups": []}`, "7", false, nil},
		"big number":         {200, `{"user": 12345678901234567890}`, "12345678901234567890", false, nil},
		"no groups":          {200, `{"user": 7}`, "7", false, nil},
		"groups are null":    {200, `{"user": 7, "groups": null}`, "7", false, nil},
		"nobody":             {200, `{"user": null, "groups": ["*"]}`, "", true, nil},
		"no user":            {200, `{"groups": ["*"]}`, "", true, nil},
		"401":                {401, `{"user": 7, "groups": ["*"]}`, "", true, nil},
		"403":                {403, `{"user": 7, "groups": ["*"]}`, "", true, nil},
		"empty id":           {200, `{"user": ""}`, "", false, nil},
		"user is true":       {200, `{"user": true}`, "", false, nil},
		"user without id":    {200, `{"user": {"name": "x"}}`, "", false, nil},
		"groups is a text":   {200, `{"user": 7, "groups": "*"}`, "", false, nil},
		"group is a number":  {200, `{"user": 7, "groups": [1]}`, "", false, nil},
		"lifetime is text":   {200, `{"user": 7, "lifetime": "1h"}`, "", false, nil},
		"lifetime too long":  {200, `{"user": 7, "lifetime": 1e30}`, "", false, nil},
		"lifetime below 0":   {200, `{"user": 7, "lifetime": -1}`, "", false, nil},
		"two objects":        {200, `{"user": 7}{"user": 8}`, "", false, nil},
		"list":               {200, `[{"user": 7}]`, "", false, nil},
		"page":               {200, `<html>`, "", false, nil},
		"empty":              {200, ``, "", false, nil},
		"204":                {204, ``, "", false, nil},
		"500":                {500, `{"user": 7, "groups": ["*"]}`, "", false, nil},
		"503":                {503, ``, "", false, nil},
		"404":                {404, ``, "", false, nil},
		"400":                {400, ``, "", false, nil},
		"redirect":           {302, ``, "", false, nil},
		"longer than a page": {200, `{"user": 7, "x": "` + strings.Repeat("x", 2<<20) + `"}`, "", false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEndpoint(t, respond(c.status, c.body))
			a := newAuthorizer(t, e, nil)
			id, err := a.Authenticate(handshake(login))
			if (err == nil) != (c.id != "") || id.ID != c.id {
				t.Fatalf("got %q, %v; want %q", id.ID, err, c.id)
			}
			if errors.Is(err, relay.ErrUnauthenticated) != c.denied {
				t.Errorf("got %v; want ErrUnauthenticated: %v", err, c.denied)
			}
			if err != nil {
				return
			}
			for _, group := range append([]string{"secret"}, c.groups...) {
				if err := a.Authorize(t.Context(), id, group); (err == nil) != (group != "secret") {
					t.Errorf("group %s: %v", group, err)
				}
			}
		})
	}
}

func TestProfile(t *testing.T) {
	e := newEndpoint(t, respond(200, `{"user": {"id": 7, "name": "Ann", "team": ["x"], "superuser": true}}`))
	id := identify(t, newAuthorizer(t, e, nil))
	var profile map[string]any
	if err := json.Unmarshal([]byte(id.Profile), &profile); err != nil || profile["team"] == nil {
		t.Errorf("profile %s: %v", id.Profile, err)
	}
	if id.Name != "Ann" || id.Key != "7" || id.Kind != relay.Superuser {
		t.Errorf("got %+v", id)
	}
}

// The site sees the client's own credentials, and headers of the relay that the client cannot set.
func TestRequests(t *testing.T) {
	e := newEndpoint(t, respond(200, `{"user": 7}`))
	forged := []string{
		login, "Authorization: Bearer x", "X-Tenant: t", "X-Forwarded-For: 9.9.9.9", "X-Edgerelay-Key: forged",
		"X-Other: y", "X-Forwarded-Uri: /forged",
	}
	a := newAuthorizer(t, e, func(s *site.Settings) {
		s.Headers, s.Key, s.URI = []string{"X-Tenant", "X-Forwarded-For"}, "secret", true
	})
	id, err := a.Authenticate(handshake(forged...))
	if err != nil {
		t.Fatal(err)
	}
	_ = a.Authorize(t.Context(), id, "orders-1")
	for i, r := range e.asked() {
		for name, want := range map[string]string{
			"Cookie": "sessionid=alice; theme=dark", "Authorization": "Bearer x", "X-Tenant": "t", "X-Other": "",
			"X-Forwarded-For": "192.0.2.1", "X-Edgerelay-Key": "secret", "X-Forwarded-Host": "shop.example.com",
			"X-Forwarded-Uri": "/ws/orders/1/?token=q", "X-Forwarded-Proto": "https",
		} {
			if got := strings.Join(r.Header.Values(name), "|"); got != want {
				t.Errorf("request %d: %s is %q, want %q", i, name, got, want)
			}
		}
		if want := []string{"", "orders-1"}[i]; r.Method != "GET" || r.URL.Path != "/auth/" || r.FormValue("group") != want {
			t.Errorf("request %d: %s %s", i, r.Method, r.URL)
		}
	}
	post := newAuthorizer(t, e, func(s *site.Settings) { s.Post = true })
	_ = post.Authorize(t.Context(), identify(t, post), "orders-1")
	all := e.asked()
	body, _ := io.ReadAll(all[len(all)-1].Body)
	if len(all) != 4 || string(body) != `{"group":"orders-1"}` {
		t.Errorf("%d requests, the last is %s", len(all), body)
	}
	if _, err := post.Authenticate(handshake()); !errors.Is(err, relay.ErrUnauthenticated) || len(e.asked()) != 4 {
		t.Errorf("without credentials: %v, %d requests", err, len(e.asked()))
	}
}

// A group that is not in the answer about the login is asked for once.
func TestGroupsAreAskedFor(t *testing.T) {
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		switch group := r.FormValue("group"); group {
		case "":
			_, _ = io.WriteString(w, `{"user": 7, "groups": ["news"]}`)
		case "mine":
			_, _ = io.WriteString(w, `{"user": 7, "groups": ["mine"]}`)
		case "silent":
			_, _ = io.WriteString(w, `{"user": 7}`)
		case "stolen":
			_, _ = io.WriteString(w, `{"user": 8, "groups": ["*"]}`)
		case "broken":
			w.WriteHeader(500)
		default:
			w.WriteHeader(403)
		}
	})
	a := newAuthorizer(t, e, nil)
	id := identify(t, a)
	for group, want := range map[string]error{
		"news": nil, "mine": nil, "silent": relay.ErrDenied, "stolen": relay.ErrDenied, "other": relay.ErrDenied,
	} {
		for range 3 {
			if err := a.Authorize(t.Context(), id, group); !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("%s: %v, want %v", group, err, want)
			}
		}
	}
	if n := len(e.asked()); n != 5 {
		t.Errorf("%d requests, want one for the login and four for groups", n)
	}
	if err := a.Authorize(t.Context(), id, "broken"); err == nil || errors.Is(err, relay.ErrDenied) {
		t.Errorf("no answer: %v, want a failure", err)
	}
	if err := a.Authorize(t.Context(), relay.Identity{Key: "7"}, "news"); !errors.Is(err, relay.ErrDenied) {
		t.Errorf("foreign credentials: %v", err)
	}
}

func TestRecheck(t *testing.T) {
	e := newEndpoint(t, respond(200, `{"user": 7, "groups": ["a", "b"]}`))
	a := newAuthorizer(t, e, nil)
	id, tab := identify(t, a), identify(t, a)
	if id.Credentials.(relay.SharedLogin).LoginKey() != tab.Credentials.(relay.SharedLogin).LoginKey() {
		t.Error("two tabs do not share a login")
	}
	e.set(respond(200, `{"user": 7, "groups": ["a"]}`))
	if err := a.Recheck(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := a.RecheckGroup(t.Context(), id, "b"); !errors.Is(err, relay.ErrDenied) {
		t.Errorf("a withdrawn group: %v", err)
	}
	if err := a.Authorize(t.Context(), tab, "b"); !errors.Is(err, relay.ErrDenied) {
		t.Errorf("a withdrawn group in another tab: %v", err)
	}
	for name, c := range map[string]struct {
		status int
		body   string
		want   error
	}{
		"logged out":   {401, "", relay.ErrUnauthenticated},
		"another user": {200, `{"user": 8}`, relay.ErrUnauthenticated},
		"other type":   {200, `{"user": "7"}`, relay.ErrUnauthenticated},
		"other rights": {200, `{"user": {"id": 7, "superuser": true}}`, relay.ErrChanged},
		"still there":  {200, `{"user": 7}`, nil},
	} {
		e.set(respond(c.status, c.body))
		if err := a.Recheck(t.Context(), id); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	e.set(respond(500, ""))
	err := a.Recheck(t.Context(), id)
	for _, certain := range []error{relay.ErrUnauthenticated, relay.ErrChanged, relay.ErrExpired, relay.ErrDenied, nil} {
		if errors.Is(err, certain) {
			t.Errorf("a failure is the certain result %v", err)
		}
	}
}

// A site with several hosts, such as one for each customer, may have another user, or none, for the same cookie.
func TestHostsDoNotShareLogins(t *testing.T) {
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Forwarded-Host") != "shop.example.com" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, `{"user": 7, "groups": ["*"]}`)
	})
	a := newAuthorizer(t, e, nil)
	identify(t, a)
	other := handshake(login)
	other.Host = "bank.example.com"
	if id, err := a.Authenticate(other); !errors.Is(err, relay.ErrUnauthenticated) {
		t.Errorf("the login of another host: %+v, %v", id, err)
	}
}

// At the end of its lifetime a login is asked about again; without an answer, it ends.
func TestLifetime(t *testing.T) {
	e := newEndpoint(t, respond(200, `{"user": 7, "lifetime": 0.3}`))
	a := newAuthorizer(t, e, nil)
	id := identify(t, a)
	until := id.Credentials.(relay.ExpiringLogin).Until()
	if left := time.Until(until); left <= 0 || left > 300*time.Millisecond {
		t.Fatalf("ends in %v", left)
	}
	testkit.Eventually(t, "the end", func() bool { return !time.Now().Before(until) })
	if err := a.Recheck(t.Context(), id); err != nil || !id.Credentials.(relay.ExpiringLogin).Until().After(until) {
		t.Errorf("a renewed login: %v", err)
	}
	until = id.Credentials.(relay.ExpiringLogin).Until()
	e.set(respond(500, ""))
	testkit.Eventually(t, "the end", func() bool { return !time.Now().Before(until) })
	if err := a.Recheck(t.Context(), id); !errors.Is(err, relay.ErrExpired) {
		t.Errorf("without an answer: %v", err)
	}
}

// Ten thousand browsers of fifty users that reconnect at once cause fifty requests, eight at a time.
func TestConcurrentLookupsShareRequests(t *testing.T) {
	const browsers, users, concurrency = 10_000, 50, 8
	var inFlight, peak atomic.Int64
	full := make(chan struct{})
	var once sync.Once
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		n := inFlight.Add(1)
		defer inFlight.Add(-1)
		for p := peak.Load(); n > p && !peak.CompareAndSwap(p, n); p = peak.Load() {
		}
		if n == concurrency {
			once.Do(func() { close(full) })
		}
		<-full // no response before the bound is reached
		c, _ := r.Cookie("sessionid")
		_, _ = fmt.Fprintf(w, `{"user": %q, "groups": ["a"]}`, c.Value)
	})
	a := newAuthorizer(t, e, func(s *site.Settings) { s.Concurrency, s.Timeout = concurrency, time.Minute })
	var group sync.WaitGroup
	start := make(chan struct{})
	for i := range browsers {
		group.Go(func() {
			<-start
			name := fmt.Sprint("u", i%users)
			id, err := a.Authenticate(handshake(fmt.Sprintf("Cookie: csrftoken=%d; sessionid=%s; tab=%d", i, name, i)))
			if err != nil || id.Key != name {
				t.Errorf("%s is %+v, %v", name, id, err)
			}
		})
	}
	close(start)
	group.Wait()
	if n := len(e.asked()); n != users {
		t.Errorf("%d requests for %d users", n, users)
	}
	if peak.Load() != concurrency {
		t.Errorf("at most %d requests in flight, want %d", peak.Load(), concurrency)
	}
}

// A flood of strangers delays no login that the site has confirmed.
func TestStrangersDoNotDelayKnownLogins(t *testing.T) {
	hold := make(chan struct{})
	release := sync.OnceFunc(func() { close(hold) })
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Cookie"), "alice") {
			<-hold
			w.WriteHeader(401)
			return
		}
		_, _ = io.WriteString(w, `{"user": 7}`)
	})
	defer release()
	const slots = 16
	a := newAuthorizer(t, e, func(s *site.Settings) { s.Cache, s.Concurrency = 0, slots })
	identify(t, a)
	var strangers sync.WaitGroup
	defer strangers.Wait()
	defer release()
	for i := range 2 * slots {
		strangers.Go(func() { _, _ = a.Authenticate(handshake(fmt.Sprintf("Cookie: sessionid=s%d", i))) })
	}
	testkit.Eventually(t, "the strangers' requests", func() bool { return len(e.asked()) >= slots-3 })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := a.Authenticate(handshake(login).WithContext(ctx)); err != nil {
		t.Errorf("a known login beside strangers: %v", err)
	}
}

// FuzzAnswers feeds arbitrary answers. None may permit a group that it does not name.
func FuzzAnswers(f *testing.F) {
	f.Add(200, `{"user": {"id": 7, "name": "x"}, "groups": ["a*", ""], "lifetime": 1.5}`)
	f.Add(401, ``)
	f.Add(200, `{"user": "7", "groups": {"*": 1}}`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		if status < 200 || status > 599 {
			return
		}
		s := site.DefaultSettings()
		s.URL, s.Transport = "http://site.invalid/", roundTrip(func(r *http.Request) (*http.Response, error) {
			return &http.Response{
				StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r,
			}, nil
		})
		a, err := site.NewAuthorizer(s)
		if err != nil {
			t.Fatal(err)
		}
		id, err := a.Authenticate(handshake(login))
		if err != nil {
			return
		}
		if status != 200 || id.Key == "" || id.ID == "" || !json.Valid([]byte(id.ID)) || !json.Valid([]byte(id.Profile)) {
			t.Errorf("%d %q is %+v", status, body, id)
		}
		if !strings.Contains(body, "groups") && !strings.Contains(body, `\u`) && a.Authorize(t.Context(), id, "secret") == nil {
			t.Errorf("%q permits a group", body)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
