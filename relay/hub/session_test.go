package hub_test

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

func TestConnectionsAreLimited(t *testing.T) {
	h, _ := newHub(t)
	limits := relay.DefaultLimits()
	limits.Connections, limits.ConnectionsPerAddress, limits.ConnectionsPerUser = 3, 2, 1
	h.SetLimits(limits)
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	room, err := h.Admit(a)
	if err != nil {
		t.Fatal(err)
	}
	admit := func(address netip.Addr) error {
		_, err := h.Admit(address)
		return err
	}
	err1, err2, err3, err4 := admit(a), admit(a), admit(b), admit(b)
	if err1 != nil || !errors.Is(err2, hub.ErrTooManyFromAddress) ||
		err3 != nil || !errors.Is(err4, hub.ErrTooManyConnections) {
		t.Error(err1, err2, err3, err4)
	}
	room.Release()
	if err := admit(b); err != nil {
		t.Error(err)
	}
	if h.Stats().Rejected != 2 {
		t.Errorf("%d rejections counted, want 2", h.Stats().Rejected)
	}
}

func TestConnectionsOfAUserAreLimited(t *testing.T) {
	h, _ := newHub(t)
	limits := relay.DefaultLimits()
	limits.ConnectionsPerUser = 1
	h.SetLimits(limits)
	identify := func(id relay.Identity) (*hub.Reservation, error) {
		t.Helper()
		r, err := h.Admit(netip.Addr{})
		if err != nil {
			t.Fatal(err)
		}
		return r, r.Identify(id)
	}
	user := relay.Identity{Key: "7"}
	first, err := identify(user)
	if err != nil {
		t.Fatal(err)
	}
	second, err := identify(user)
	if !errors.Is(err, hub.ErrTooManyOfUser) {
		t.Errorf("a second connection: %v, want %v", err, hub.ErrTooManyOfUser)
	}
	second.Release()
	first.Release()
	first.Release() // changes nothing
	third, err := identify(user)
	if err != nil {
		t.Errorf("after the release of the first: %v", err)
	}
	session := third.Open(newSocket())
	third.Release() // the session has the reservation
	if _, err := identify(user); !errors.Is(err, hub.ErrTooManyOfUser) {
		t.Errorf("while a session is open: %v, want %v", err, hub.ErrTooManyOfUser)
	}
	session.Close()
	if _, err := identify(user); err != nil {
		t.Errorf("after the session was closed: %v", err)
	}
	for range 2 {
		if _, err := identify(relay.Identity{}); err != nil {
			t.Errorf("a client without a user key: %v", err)
		}
	}
	if n := h.Stats().Rejected; n != 2 {
		t.Errorf("%d rejections counted, want 2", n)
	}
}

func TestSilentClientTimesOut(t *testing.T) {
	h, _ := newHub(t)
	limits := relay.DefaultLimits()
	limits.Ping, limits.Silence = 40*time.Millisecond, 200*time.Millisecond
	_, silent := open(h)
	_, alive := open(h)
	alive.read.Store(time.Now().Add(time.Hour).UnixNano())
	h.SetLimits(limits)
	testkit.Eventually(t, "the silent client to time out", func() bool {
		_, killed := silent.closed()
		return killed
	})
	testkit.Eventually(t, "pings", func() bool {
		alive.mu.Lock()
		defer alive.mu.Unlock()
		return alive.pings >= 2
	})
	if code, killed := alive.closed(); code != 0 || killed {
		t.Error("a live client was closed")
	}
}

// fickle is an authorizer that ends all logins once gone is set.
type fickle struct {
	relay.Open
	gone atomic.Bool
	fail atomic.Bool
}

func (f *fickle) Recheck(context.Context, relay.Identity) error {
	switch {
	case f.fail.Load():
		return errors.New("no answer")
	case f.gone.Load():
		return relay.ErrUnauthenticated
	}
	return nil
}

func (f *fickle) Authenticate(r *http.Request) (relay.Identity, error) { return f.Open.Authenticate(r) }

// farewell is a protocol that sends a text before it closes the socket.
type farewell struct{}

func (farewell) EndLogin(s relay.Socket) {
	s.Send(relay.AppendFrame(nil, []byte("logged out")), 1<<20)
	s.Close(relay.CloseNormal, "")
}

func (farewell) EncodeChange(relay.Change) []byte { return nil }

func TestRecheckEndsSessions(t *testing.T) {
	h, _ := newHub(t)
	h.SetProtocol(farewell{})
	f := &fickle{}
	f.fail.Store(true)
	h.SetAuthorizer(f, 20*time.Millisecond)
	_, s := open(h)
	_, other := open(h)
	f.gone.Store(true)
	if code, _ := s.closed(); code != 0 {
		t.Error("closed although the recheck failed")
	}
	f.fail.Store(false)
	for _, s := range []*socket{s, other} {
		waitForClose(t, s, relay.CloseNormal)
		if got := s.got(); !slices.Equal(got, []string{"logged out"}) {
			t.Errorf("got %q", got)
		}
	}
}

func waitForClose(t *testing.T, s *socket, want int) {
	t.Helper()
	testkit.Eventually(t, "the socket to be closed", func() bool { code, _ := s.closed(); return code == want })
}

// another is another kind of authorizer, without the logins of Open.
type another struct{ fickle }

// After a change to another kind of authorizer, open sessions are rechecked even without a recheck interval.
func TestAnotherKindOfAuthorizerRechecksSessions(t *testing.T) {
	h, _ := newHub(t)
	_, s := open(h)
	a := &another{}
	a.gone.Store(true)
	h.SetAuthorizer(a, 0)
	waitForClose(t, s, relay.CloseNormal)
}

// A user with changed rights must reconnect, and is then classified again.
func TestChangedRightsEndSession(t *testing.T) {
	h, _ := newHub(t)
	_, s := open(h)
	h.SetAuthorizer(promoted{}, 20*time.Millisecond)
	waitForClose(t, s, relay.CloseRestart)
	if got := s.got(); len(got) != 0 {
		t.Errorf("got %q", got)
	}
}

type promoted struct{ relay.Open }

func (promoted) Recheck(context.Context, relay.Identity) error { return relay.ErrChanged }

func TestCloseClosesEverySocket(t *testing.T) {
	h, _ := newHub(t)
	var sockets []*socket
	var sessions []*hub.Session
	for range 100 {
		session, s := open(h)
		sockets, sessions = append(sockets, s), append(sessions, session)
	}
	done := make(chan error)
	go func() { done <- h.Close(context.Background()) }()
	for i, s := range sockets {
		waitForClose(t, s, relay.CloseGoingAway)
		sessions[i].Close()
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := h.Admit(netip.Addr{}); !errors.Is(err, relay.ErrClosed) {
		t.Errorf("a closed hub admits: %v", err)
	}
}
