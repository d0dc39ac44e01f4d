package relay_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/memory"
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

// socket is a client's end that records what is sent.
type socket struct {
	mu     sync.Mutex
	texts  []string
	pings  int
	code   int
	killed bool
	read   atomic.Int64
	refuse bool

	waiting int
	slow    bool
}

func newSocket() *socket {
	s := &socket{}
	s.read.Store(time.Now().UnixNano())
	return s
}

func (s *socket) Send(frames []byte, _ int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse || s.code != 0 || s.killed {
		return false
	}
	for len(frames) > 0 {
		n, head := int(frames[1]), 2
		switch n {
		case 126:
			n, head = int(binary.BigEndian.Uint16(frames[2:])), 4
		case 127:
			n, head = int(binary.BigEndian.Uint64(frames[2:])), 10
		}
		s.texts = append(s.texts, string(frames[head:head+n]))
		frames = frames[head+n:]
	}
	return true
}

func (s *socket) SendCopy(frames []byte, limit int) bool { return s.Send(frames, limit) }

func (s *socket) Ping() { s.mu.Lock(); s.pings++; s.mu.Unlock() }

func (s *socket) Waiting() (int, bool) { s.mu.Lock(); defer s.mu.Unlock(); return s.waiting, s.slow }

func (s *socket) LastRead() time.Time { return time.Unix(0, s.read.Load()) }

func (s *socket) Close(code int, _ string) { s.mu.Lock(); s.code = code; s.mu.Unlock() }

func (s *socket) Kill() { s.mu.Lock(); s.killed = true; s.mu.Unlock() }

func (s *socket) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.texts)
}

func (s *socket) closed() (code int, killed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.code, s.killed
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// newHub returns a hub on a memory layer of its own, and an emitter on the same layer.
func newHub(t testing.TB) (*relay.Hub, relay.Broker) {
	t.Helper()
	h := relay.NewHub(quiet)
	layer := memory.NewLayer()
	if err := h.SetBroker(context.Background(), layer.Broker()); err != nil {
		t.Fatal(err)
	}
	h.SetAuthorizer(relay.Open{}, 0)
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = h.Close(ctx)
	})
	return h, layer.Broker()
}

func open(h *relay.Hub) (*relay.Session, *socket) {
	s := newSocket()
	_ = h.Admit(netip.Addr{})
	_ = h.AdmitUser(relay.Identity{Key: "1"})
	return h.Open(s, relay.Identity{ID: "1", Key: "1"}, netip.Addr{}), s
}

func subscribe(t testing.TB, h *relay.Hub, s *relay.Session, groups ...string) relay.Change {
	t.Helper()
	c, err := h.Subscribe(context.Background(), s, groups)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func publish(t testing.TB, b relay.Broker, group, text string) {
	t.Helper()
	if _, err := b.Publish(context.Background(), group, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func TestEventsReachTheirSubscribersOnly(t *testing.T) {
	h, emitter := newHub(t)
	type client struct {
		socket *socket
		groups []string
	}
	var clients []client
	for i := range 50 {
		session, s := open(h)
		groups := []string{fmt.Sprint("g-", i%7)}
		if i%3 == 0 {
			groups = append(groups, "all")
		}
		if i > 40 { // sequences that no other client gets
			groups = append(groups, fmt.Sprint("g-", (i+1)%7), fmt.Sprint("g-", (i+2)%7))
		}
		subscribe(t, h, session, groups...)
		clients = append(clients, client{s, groups})
	}
	type event struct{ group, text string }
	var published []event
	for i := range 2000 {
		ev := event{group: fmt.Sprint("g-", rand.N(8))} // g-7 has no clients
		if rand.N(5) == 0 {
			ev.group = "all"
		}
		ev.text = fmt.Sprintf("%s %d", ev.group, i)
		if i%300 == 0 {
			ev.text += string(make([]byte, 70_000)) // longer than what is joined
		}
		published = append(published, ev)
	}
	for rest := published; len(rest) > 0; { // one at a time, and in batches
		n := min(1+rand.N(3)*rand.N(300), len(rest))
		if n == 1 {
			publish(t, emitter, rest[0].group, rest[0].text)
		} else {
			var batch []relay.Event
			for _, ev := range rest[:n] {
				batch = append(batch, relay.Event{Group: ev.group, Text: []byte(ev.text)})
			}
			h.Deliver(batch)
		}
		rest = rest[n:]
	}
	for i, c := range clients {
		var want []string
		for _, ev := range published {
			if slices.Contains(c.groups, ev.group) {
				want = append(want, ev.text)
			}
		}
		relaytest.Eventually(t, "all events", func() bool { return len(c.socket.got()) >= len(want) })
		if !slices.Equal(c.socket.got(), want) {
			t.Errorf("client %d: the events are not those of its groups, in the order of publishing", i)
		}
	}
	if s := h.Stats(); s.Unheard == 0 || s.Missed != 0 {
		t.Errorf("%+v", s)
	}
}

func TestSubscribeReplaces(t *testing.T) {
	h, emitter := newHub(t)
	session, s := open(h)
	c := subscribe(t, h, session, "a", "b")
	if !slices.Equal(c.Joined, []string{"a", "b"}) || c.Left != nil {
		t.Errorf("%+v", c)
	}
	c = subscribe(t, h, session, "b", "c")
	if !slices.Equal(c.Joined, []string{"c"}) || !slices.Equal(c.Left, []string{"a"}) || !slices.Equal(c.Current, []string{"b", "c"}) {
		t.Errorf("%+v", c)
	}
	publish(t, emitter, "a", "a")
	publish(t, emitter, "b", "b")
	relaytest.Eventually(t, "the event of b", func() bool { return len(s.got()) > 0 })
	if got := s.got(); !slices.Equal(got, []string{"b"}) {
		t.Errorf("got %q", got)
	}
	if c = subscribe(t, h, session); len(c.Left) != 2 || h.Stats().Groups != 0 {
		t.Errorf("%+v, %d groups", c, h.Stats().Groups)
	}
}

func TestTooManyGroupsChangeNothing(t *testing.T) {
	h, _ := newHub(t)
	limits := relay.DefaultLimits()
	limits.GroupsPerConnection = 2
	h.SetLimits(limits)
	session, _ := open(h)
	subscribe(t, h, session, "a", "b")
	_, err := h.Subscribe(context.Background(), session, []string{"a", "b", "c"})
	if !errors.As(err, new(relay.TooManyGroupsError)) {
		t.Errorf("error %v", err)
	}
	if h.Stats().Groups != 2 {
		t.Errorf("%d groups", h.Stats().Groups)
	}
}

// TestNothingAfterUnsubscribe changes subscriptions while events flow; run it with -race.
func TestNothingAfterUnsubscribe(t *testing.T) {
	h, emitter := newHub(t)
	stop := make(chan struct{})
	var emitting, churning sync.WaitGroup
	for g := range 4 {
		emitting.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					publish(t, emitter, fmt.Sprint("g-", g), fmt.Sprint("g-", g))
				}
			}
		})
	}
	for range 16 {
		churning.Go(func() {
			for range 50 {
				session, s := open(h)
				group := fmt.Sprint("g-", rand.N(4))
				subscribe(t, h, session, group)
				relaytest.Eventually(t, "an event", func() bool { return len(s.got()) > 0 })
				subscribe(t, h, session)
				n := len(s.got())
				for _, text := range s.got() {
					if text != group {
						t.Errorf("got %q of another group", text)
					}
				}
				subscribe(t, h, session, "quiet")
				if len(s.got()) != n {
					t.Error("an event came after the group was left")
				}
				session.Close()
			}
		})
	}
	churning.Wait()
	close(stop)
	emitting.Wait()
	if s := h.Stats(); s.Sessions != 0 || s.Groups != 0 {
		t.Errorf("left behind: %d sessions, %d groups", s.Sessions, s.Groups)
	}
}

func TestInvalidTextIsDropped(t *testing.T) {
	h, emitter := newHub(t)
	session, s := open(h)
	subscribe(t, h, session, "g")
	publish(t, emitter, "g", "bad \xff")
	publish(t, emitter, "g", "good")
	relaytest.Eventually(t, "the good event", func() bool { return len(s.got()) == 1 })
	if h.Stats().Invalid != 1 || s.got()[0] != "good" {
		t.Errorf("%+v, %q", h.Stats(), s.got())
	}
}

func TestBrokerIsExchangedUnderClients(t *testing.T) {
	h, emitter := newHub(t)
	session, s := open(h)
	subscribe(t, h, session, "g")
	publish(t, emitter, "g", "old layer")
	next := memory.NewLayer()
	if err := h.SetBroker(context.Background(), next.Broker()); err != nil {
		t.Fatal(err)
	}
	publish(t, emitter, "g", "nobody hears this")
	publish(t, next.Broker(), "g", "new layer")
	relaytest.Eventually(t, "both events", func() bool { return len(s.got()) == 2 })
	if !slices.Equal(s.got(), []string{"old layer", "new layer"}) {
		t.Errorf("got %q", s.got())
	}
	if code, killed := s.closed(); code != 0 || killed {
		t.Error("the socket was closed")
	}
}

// witness is a backplane that notes what it is told.
type witness struct {
	joined, left, published []string
	waited                  int
}

func (w *witness) Interest(joined, left []string) func(context.Context) {
	w.joined, w.left = append(w.joined, joined...), append(w.left, left...)
	return func(context.Context) { w.waited++ }
}

func (w *witness) Published(_ context.Context, group string, _ []byte) error {
	w.published = append(w.published, group)
	return nil
}

func TestListenersAndBackplane(t *testing.T) {
	h, emitter := newHub(t)
	early, _ := open(h)
	subscribe(t, h, early, "early")
	w := &witness{}
	h.SetBackplane(w)
	var heard []string
	stop := h.Listen(context.Background(), "g", func(ev relay.Event) { heard = append(heard, string(ev.Text)) })
	publish(t, emitter, "g", "1")
	publish(t, emitter, "other", "2")
	if got := h.Stats().Groups; got != 1 {
		t.Errorf("%d groups have clients", got)
	}
	one, _ := open(h)
	two, _ := open(h)
	subscribe(t, h, one, "g", "early")
	subscribe(t, h, two, "g")
	subscribe(t, h, one)
	stop()
	stop()
	two.Close()
	publish(t, emitter, "g", "3")
	if !slices.Equal(heard, []string{"1"}) {
		t.Errorf("heard %q", heard)
	}
	// A listener is nobody that peers need to know of; of clients, the first and the last.
	if !slices.Equal(w.joined, []string{"early", "g"}) || !slices.Equal(w.left, []string{"g"}) || w.waited != 1 {
		t.Errorf("joined %q, left %q, waited %d times", w.joined, w.left, w.waited)
	}
	if _, err := h.Publish(context.Background(), "g", []byte("4")); err != nil || !slices.Equal(w.published, []string{"g"}) {
		t.Errorf("published %q, %v", w.published, err)
	}
}

// doubler is an interceptor that doubles what it likes and drops the rest.
type doubler struct{}

func (doubler) Classify(context.Context, relay.Identity, string) (uint8, error) { return 0, nil }

func (doubler) Intercept(events []relay.Event) []relay.Event {
	var out []relay.Event
	for _, ev := range events {
		if string(ev.Text) != "dull" {
			out = append(out, ev, ev)
		}
	}
	return out
}

func TestInterceptor(t *testing.T) {
	h, emitter := newHub(t)
	session, s := open(h)
	subscribe(t, h, session, "g")
	h.SetInterceptor(doubler{})
	publish(t, emitter, "g", "dull")
	publish(t, emitter, "g", "bright")
	h.SetInterceptor(nil)
	publish(t, emitter, "g", "dull")
	relaytest.Eventually(t, "three events", func() bool { return len(s.got()) == 3 })
	if !slices.Equal(s.got(), []string{"bright", "bright", "dull"}) {
		t.Errorf("got %q", s.got())
	}
}

func TestAdmission(t *testing.T) {
	h, _ := newHub(t)
	limits := relay.DefaultLimits()
	limits.Connections, limits.ConnectionsPerAddress, limits.ConnectionsPerUser = 3, 2, 1
	h.SetLimits(limits)
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	if err := h.Admit(a); err != nil {
		t.Fatal(err)
	}
	err1, err2, err3, err4 := h.Admit(a), h.Admit(a), h.Admit(b), h.Admit(b)
	if err1 != nil || !errors.Is(err2, relay.ErrTooManyFromAddress) || err3 != nil || !errors.Is(err4, relay.ErrTooManyConnections) {
		t.Error(err1, err2, err3, err4)
	}
	h.Dismiss(a)
	if err := h.Admit(b); err != nil {
		t.Error(err)
	}
	user := relay.Identity{Key: "7"}
	if err := h.AdmitUser(user); err != nil {
		t.Fatal(err)
	}
	if err := h.AdmitUser(user); !errors.Is(err, relay.ErrTooManyOfUser) {
		t.Error(err)
	}
	h.DismissUser(user)
	if err := h.AdmitUser(user); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := h.AdmitUser(relay.Identity{}); err != nil { // nobody in particular
			t.Error(err)
		}
	}
	if h.Stats().Refused != 3 {
		t.Errorf("%d refusals counted", h.Stats().Refused)
	}
}

func TestPingsAndSilence(t *testing.T) {
	h, _ := newHub(t)
	limits := relay.DefaultLimits()
	limits.Ping, limits.Silence = 40*time.Millisecond, 200*time.Millisecond
	_, silent := open(h)
	_, alive := open(h)
	alive.read.Store(time.Now().Add(time.Hour).UnixNano())
	h.SetLimits(limits)
	relaytest.Eventually(t, "the silent client to be given up", func() bool { _, killed := silent.closed(); return killed })
	relaytest.Eventually(t, "pings", func() bool {
		alive.mu.Lock()
		defer alive.mu.Unlock()
		return alive.pings >= 2
	})
	if code, killed := alive.closed(); code != 0 || killed {
		t.Error("a live client was closed")
	}
}

// fickle forgets a user.
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

func TestRecheckEndsSessions(t *testing.T) {
	h, _ := newHub(t)
	f := &fickle{}
	f.fail.Store(true)
	h.SetAuthorizer(f, 20*time.Millisecond)
	_, s := open(h)
	_, other := open(h)
	f.gone.Store(true)
	if code, _ := s.closed(); code != 0 {
		t.Error("closed although the question failed")
	}
	f.fail.Store(false)
	for _, s := range []*socket{s, other} {
		relaytest.Eventually(t, "the session to end", func() bool { code, _ := s.closed(); return code == relay.CloseNormal })
		if got := s.got(); !slices.Equal(got, []string{`{"close": true}`}) {
			t.Errorf("got %q", got)
		}
	}
}

func TestCloseTellsEveryClient(t *testing.T) {
	h, _ := newHub(t)
	var sockets []*socket
	var sessions []*relay.Session
	for range 100 {
		session, s := open(h)
		sockets, sessions = append(sockets, s), append(sessions, session)
	}
	done := make(chan error)
	go func() { done <- h.Close(context.Background()) }()
	for i, s := range sockets {
		relaytest.Eventually(t, "the goodbye", func() bool { code, _ := s.closed(); return code == relay.CloseGoingAway })
		sessions[i].Close()
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := h.Admit(netip.Addr{}); !errors.Is(err, relay.ErrClosed) {
		t.Errorf("a closed hub admits: %v", err)
	}
}

func TestValidGroup(t *testing.T) {
	for name, want := range map[string]bool{
		"jobs-status_changed": true, "A.b-9_": true, string(make([]byte, 5)): false, "": false, "a b": false, "ü": false,
		"a/b": false, "a!b": false, "a\n": false, "٣": false,
	} {
		if relay.ValidGroup(name) != want {
			t.Errorf("ValidGroup(%q) = %v", name, !want)
		}
		if err := relay.CheckGroup(name); (err == nil) != want {
			t.Errorf("CheckGroup(%q): %v", name, err)
		}
	}
	long := slices.Repeat([]byte("a"), 100)
	if relay.ValidGroup(string(long)) || !relay.ValidGroup(string(long[:99])) {
		t.Error("99 bytes are allowed, 100 are not")
	}
}

// discard is a socket that costs nothing.
type discard struct{}

func (discard) Send([]byte, int) bool     { return true }
func (discard) SendCopy([]byte, int) bool { return true }
func (discard) Ping()                     {}
func (discard) Waiting() (int, bool)      { return 0, false }
func (discard) LastRead() time.Time       { return time.Now() }
func (discard) Close(int, string)         {}
func (discard) Kill()                     {}

// BenchmarkDeliver measures the relay's own work for one event of 300 bytes: a batch of 64 for one group, and sockets that take
// everything at no cost.
func BenchmarkDeliver(b *testing.B) {
	for _, clients := range []int{1, 1000, 10_000} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) {
			h, _ := newHub(b)
			for range clients {
				session := h.Open(discard{}, relay.Identity{ID: "1"}, netip.Addr{})
				subscribe(b, h, session, "g")
			}
			events := make([]relay.Event, 64)
			text, sent := slices.Repeat([]byte("x"), 300), time.Now()
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += len(events) {
				for j := range events {
					events[j] = relay.Event{Group: "g", Text: text, Sent: sent}
				}
				h.Deliver(events)
			}
			want := uint64((b.N + 63) / 64 * 64 * clients)
			for h.Stats().Deliveries < want {
				time.Sleep(time.Microsecond)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(want), "ns/delivery")
		})
	}
}
