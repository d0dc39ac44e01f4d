package composite_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/composite"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// site is an authorizer that knows its own clients only.
type site struct {
	name string
	mu   sync.Mutex
	// result and group are the results of Recheck and RecheckGroup.
	result, group error
	succeeded     relay.Authorizer
	rechecked     int
}

// other is a site of another type.
type other struct{ *site }

// account are the credentials of a site's client.
type account struct {
	site  string
	until time.Time
}

func (account) LoginKey() string          { return "alice" }
func (a account) Until() time.Time        { return a.until }
func (account) AnswerSubprotocol() string { return "v1" }

func (s *site) Authenticate(r *http.Request) (relay.Identity, error) {
	user := r.Header.Get("User")
	if user == "" {
		return relay.Identity{}, relay.ErrUnauthenticated
	}
	return relay.Identity{ID: "1", Key: user, Name: user, Credentials: account{site: s.name}}, nil
}

func (s *site) own(id relay.Identity) bool {
	a, ok := id.Credentials.(account)
	return ok && a.site == s.name
}

func (s *site) Authorize(_ context.Context, id relay.Identity, group string) error {
	if !s.own(id) || group != s.name {
		return relay.ErrDenied
	}
	return nil
}

func (s *site) Recheck(_ context.Context, id relay.Identity) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rechecked++
	if !s.own(id) {
		return relay.ErrUnauthenticated
	}
	return s.result
}

func (s *site) Rechecks(group string) bool { return group == s.name }

func (s *site) RecheckGroup(context.Context, relay.Identity, string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.group
}

func (s *site) Succeed(before relay.Authorizer) { s.succeeded = before }
func (s *site) Concurrency() int                { return 3 }

func (s *site) AuthenticateToken(_ context.Context, token string) (relay.Identity, error) {
	return relay.Identity{ID: "1", Key: token, Credentials: account{site: s.name}}, nil
}

func (s *site) Refresh(_ context.Context, id relay.Identity, _ string) error {
	if !s.own(id) {
		return relay.ErrUnauthenticated
	}
	return nil
}

func (s *site) set(result, group error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result, s.group = result, group
}

func request(user string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("User", user)
	return r
}

func add(t *testing.T, a *composite.Authorizer, name string, member relay.Authorizer) *composite.Member {
	t.Helper()
	m, err := a.Add(name, member)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func identify(t *testing.T, a relay.Authorizer) relay.Identity {
	t.Helper()
	id, err := a.Authenticate(request("alice"))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestEachMemberDecidesAboutItsClients(t *testing.T) {
	first, shop, blog := &site{name: "first"}, &site{name: "shop"}, &site{name: "blog"}
	a := composite.New(first)
	ids := map[string]relay.Identity{
		"first": identify(t, a), "shop": identify(t, add(t, a, "/shop/", shop)), "blog": identify(t, add(t, a, "/blog/", blog)),
	}
	for name, id := range ids {
		for _, group := range []string{"first", "shop", "blog"} {
			if err := a.Authorize(t.Context(), id, group); (err == nil) != (name == group) {
				t.Errorf("client of %s, group %s: %v", name, group, err)
			}
		}
		if err := a.Recheck(t.Context(), id); err != nil {
			t.Errorf("recheck of a client of %s: %v", name, err)
		}
		if err := a.Refresh(t.Context(), id, "x"); err != nil {
			t.Errorf("refresh of a client of %s: %v", name, err)
		}
		if got := id.Credentials.(relay.SubprotocolLogin).AnswerSubprotocol(); got != "v1" {
			t.Errorf("subprotocol of a client of %s: %q", name, got)
		}
	}
	shop.set(relay.ErrChanged, relay.ErrDenied)
	if err := a.Recheck(t.Context(), ids["shop"]); !errors.Is(err, relay.ErrChanged) {
		t.Errorf("recheck: %v", err)
	}
	if err := a.RecheckGroup(t.Context(), ids["shop"], "shop"); !errors.Is(err, relay.ErrDenied) {
		t.Errorf("recheck of the group: %v", err)
	}
	if err := a.RecheckGroup(t.Context(), ids["blog"], "shop"); err != nil {
		t.Errorf("recheck of a group that the member does not recheck: %v", err)
	}
	if !a.Rechecks("first") || !a.Rechecks("blog") || a.Rechecks("else") {
		t.Error("Rechecks is not that of all members")
	}
	if n := a.Concurrency(); n != 9 {
		t.Errorf("concurrency %d, want 9", n)
	}
	keys := map[string]bool{}
	for _, id := range ids {
		keys[id.Credentials.(relay.SharedLogin).LoginKey()] = true
	}
	if len(keys) != 3 {
		t.Errorf("login keys %v, want three", keys)
	}
	if _, err := a.Add("/shop/", shop); err == nil {
		t.Error("a name is given twice")
	}
}

func TestSuccession(t *testing.T) {
	first, shop := &site{name: "first"}, &site{name: "shop"}
	before := composite.New(first)
	id := identify(t, add(t, before, "/shop/", shop))
	plain := identify(t, before)

	nextFirst, nextShop := &site{name: "first"}, &site{name: "shop"}
	after := composite.New(nextFirst)
	add(t, after, "/shop/", nextShop)
	add(t, after, "/new/", &site{name: "new"})
	after.Succeed(before)
	if nextFirst.succeeded != first || nextShop.succeeded != shop {
		t.Error("the members did not take over from those of the same name")
	}
	if !after.SameKind(before) || !after.SameKind(first) {
		t.Error("same kinds count as others")
	}
	if err := after.Recheck(t.Context(), id); err != nil {
		t.Errorf("a client of before: %v", err)
	}

	without := composite.New(nextFirst)
	if without.SameKind(before) {
		t.Error("a missing member counts as the same kind")
	}
	if err := without.Recheck(t.Context(), id); !errors.Is(err, relay.ErrUnauthenticated) {
		t.Errorf("a client of a missing member: %v", err)
	}
	if err := without.Authorize(t.Context(), id, "shop"); !errors.Is(err, relay.ErrDenied) {
		t.Errorf("a client of a missing member: %v", err)
	}
	if err := without.Recheck(t.Context(), plain); err != nil {
		t.Errorf("a client of the first member: %v", err)
	}
	changed := composite.New(nextFirst)
	add(t, changed, "/shop/", other{nextShop})
	if changed.SameKind(before) {
		t.Error("a member of another type counts as the same kind")
	}
}

// socket records the close code.
type socket struct {
	mu   sync.Mutex
	code int
}

func (*socket) Send([]byte, int) bool     { return true }
func (*socket) SendCopy([]byte, int) bool { return true }
func (*socket) Ping() bool                { return true }
func (*socket) Waiting() (int, bool)      { return 0, false }
func (*socket) LastRead() time.Time       { return time.Now() }
func (*socket) Kill()                     {}
func (s *socket) Close(code int, _ string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.code == 0 {
		s.code = code
	}
}

func (s *socket) closed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.code
}

// A hub ends the sessions of one member and keeps those of another, at rechecks and at a reload without the member.
func TestHubEndsTheSessionsOfOneMember(t *testing.T) {
	h := hub.New(slog.New(slog.NewTextHandler(io.Discard, nil)))
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = h.Close(ctx)
	})
	if err := h.SetBroker(t.Context(), memory.NewLayer().Broker()); err != nil {
		t.Fatal(err)
	}
	shop, blog := &site{name: "shop"}, &site{name: "blog"}
	a := composite.New(relay.Open{})
	shopMember, blogMember := add(t, a, "shop", shop), add(t, a, "blog", blog)
	h.SetAuthorizer(a, 20*time.Millisecond)
	open := func(m *composite.Member, group string) (*socket, *hub.Session) {
		r, err := h.Admit(netip.Addr{})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Identify(identify(t, m)); err != nil {
			t.Fatal(err)
		}
		s := &socket{}
		session := r.Open(s)
		t.Cleanup(session.Close)
		sub, err := session.Authorize(t.Context(), group, false)
		if err == nil {
			_, err = session.Subscribe(t.Context(), []relay.Subscription{sub})
		}
		if err != nil {
			t.Fatal(err)
		}
		return s, session
	}
	inShop, shopSession := open(shopMember, "shop")
	inBlog, blogSession := open(blogMember, "blog")

	shop.set(nil, relay.ErrDenied)
	testkit.Eventually(t, "the end of the subscription", func() bool { return !shopSession.Holds([]string{"shop"}) })
	if !blogSession.Holds([]string{"blog"}) {
		t.Error("the other member's client lost its group")
	}
	blog.set(relay.ErrUnauthenticated, nil)
	testkit.Eventually(t, "the end of the session", func() bool { return inBlog.closed() != 0 })
	if code := inShop.closed(); code != 0 {
		t.Errorf("the other member's client was closed with %d", code)
	}
	h.SetAuthorizer(composite.New(relay.Open{}), 0) // a reload without the route, and without rechecks
	testkit.Eventually(t, "the end of the route", func() bool { return inShop.closed() != 0 })
}
