package hub_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// rules is an interceptor whose rules for classes change.
type rules struct {
	mu         sync.Mutex
	generation uint64
	decide     func(id relay.Identity) (uint8, error)
	asked      atomic.Int32
}

func (*rules) Intercept(events []relay.Event) []relay.Event { return events }

func (r *rules) Classify(_ context.Context, id relay.Identity, _ string) (c relay.Classification, err error) {
	r.mu.Lock()
	decide := r.decide
	c.Generation = r.generation
	r.mu.Unlock()
	r.asked.Add(1)
	c.Class, err = decide(id)
	return c, err
}

func (r *rules) Generation(string) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.generation
}

// change makes decide the rules.
func (r *rules) change(h *hub.Hub, decide func(id relay.Identity) (uint8, error)) {
	r.mu.Lock()
	r.generation++
	r.decide = decide
	r.mu.Unlock()
	h.Reclassify()
}

// event returns an event that shows each class its number, by the current rules.
func (r *rules) event(text string) relay.Event {
	return relay.Event{Group: "jobs-1", Text: []byte(text), Redaction: &relay.Redaction{
		Classes: everyClass, Generation: r.Generation(""),
		Render: func(class uint8) ([]byte, bool) { return fmt.Appendf(nil, "%s for %d", text, class), true },
	}}
}

func always(class uint8) func(relay.Identity) (uint8, error) {
	return func(relay.Identity) (uint8, error) { return class, nil }
}

// changeText is the protocol's message about ended subscriptions.
type changeText struct{}

func (changeText) EndLogin(s relay.Socket) { s.Close(relay.CloseNormal, "") }

func (changeText) EncodeChange(c relay.Change) []byte { return fmt.Append(nil, "left ", c.Left) }

// connectTo opens a session that is subscribed by the hub's rules.
func connectTo(t testing.TB, h *hub.Hub, id relay.Identity) (*hub.Session, *socket) {
	t.Helper()
	s := newSocket()
	session := h.Open(s, id, netip.Addr{})
	sub, err := session.Authorize(t.Context(), "jobs-1", false)
	if err == nil {
		_, err = session.Subscribe(t.Context(), []relay.Subscription{sub})
	}
	if err != nil {
		t.Fatal(err)
	}
	return session, s
}

// After a change of the rules, a subscription gets events for classes only by the new rules, and learns of those that
// it did not get. A subscription that the new rules deny ends.
func TestOpenSubscriptionsAreReclassified(t *testing.T) {
	h, _ := newHub(t)
	h.SetProtocol(changeText{})
	h.SetResync("resync")
	r := &rules{decide: always(1), generation: 1}
	h.SetInterceptor(r)
	_, alice := connectTo(t, h, relay.Identity{Name: "alice"})
	_, bob := connectTo(t, h, relay.Identity{Name: "bob"})
	h.Deliver([]relay.Event{r.event("a")})
	testkit.Eventually(t, "the first event", func() bool { return len(alice.got()) == 1 && len(bob.got()) == 1 })

	asked := make(chan struct{})
	release := sync.OnceFunc(func() { close(asked) })
	defer release()
	r.change(h, func(id relay.Identity) (uint8, error) {
		<-asked
		if id.Name == "bob" {
			return 0, relay.ErrDenied
		}
		return 2, nil
	})
	h.Deliver([]relay.Event{r.event("b"), {Group: "jobs-1", Text: []byte("open")}})
	testkit.Eventually(t, "the event without classes", func() bool { return slices.Contains(alice.got(), "open") })
	testkit.Eventually(t, "the loss", func() bool {
		losses, _ := h.Losses()
		return losses["reclassified"].Events > 0
	})
	release()
	testkit.Eventually(t, "the new class", func() bool {
		h.Deliver([]relay.Event{r.event("c")})
		return slices.Contains(alice.got(), "c for 2")
	})
	testkit.Eventually(t, "the end of bob's subscription", func() bool {
		return slices.Contains(bob.got(), "left [jobs-1]")
	})
	for user, s := range map[string]*socket{"alice": alice, "bob": bob} {
		for _, text := range s.got() {
			if strings.HasPrefix(text, "b") || text != "a for 1" && strings.HasSuffix(text, "for 1") {
				t.Errorf("%s got %q, of the former class", user, text)
			}
		}
	}
	testkit.Eventually(t, "the resync", func() bool { return slices.Contains(alice.got(), "resync") })
	if n := h.Stats().Revoked; n != 1 {
		t.Errorf("%d subscriptions ended, want 1", n)
	}
}

// While the rules fail, subscriptions stay, without events for classes.
func TestFailingReclassificationWithholds(t *testing.T) {
	h, _ := newHub(t)
	r := &rules{decide: always(1), generation: 1}
	h.SetInterceptor(r)
	_, s := connectTo(t, h, relay.Identity{})
	var healthy atomic.Bool
	r.change(h, func(relay.Identity) (uint8, error) {
		if healthy.Load() {
			return 3, nil
		}
		return 0, errors.New("the rules fail")
	})
	testkit.Eventually(t, "several attempts", func() bool { return r.asked.Load() > 3 })
	h.Deliver([]relay.Event{r.event("a"), {Group: "jobs-1", Text: []byte("open")}})
	testkit.Eventually(t, "the event without classes", func() bool { return len(s.got()) == 1 })
	healthy.Store(true)
	testkit.Eventually(t, "the new class", func() bool {
		h.Deliver([]relay.Event{r.event("b")})
		return slices.Contains(s.got(), "b for 3")
	})
	if got := s.got(); got[0] != "open" {
		t.Errorf("got %q, want nothing for classes before the rules were well", got)
	}
}

// A subscription that was authorized before a change of the rules, and is made afterwards, is classified again.
func TestSubscriptionDuringAChange(t *testing.T) {
	h, _ := newHub(t)
	r := &rules{decide: always(1), generation: 1}
	h.SetInterceptor(r)
	s := newSocket()
	session := h.Open(s, relay.Identity{}, netip.Addr{})
	sub, err := session.Authorize(t.Context(), "jobs-1", false)
	if err != nil {
		t.Fatal(err)
	}
	r.change(h, always(0))
	testkit.Eventually(t, "nothing to classify", func() bool { return h.Stats().Groups == 0 })
	if _, err := session.Subscribe(t.Context(), []relay.Subscription{sub}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the new class", func() bool {
		h.Deliver([]relay.Event{r.event("a")})
		return slices.Contains(s.got(), "a for 0")
	})
	if slices.Contains(s.got(), "a for 1") {
		t.Errorf("got %q, of the former class", s.got())
	}
}

// Rechecks of a login ask for the classes of its subscriptions again.
func TestRecheckClassifiesAgain(t *testing.T) {
	h, _ := newHub(t)
	h.SetProtocol(changeText{})
	var class atomic.Int32
	class.Store(1)
	r := &rules{generation: 1, decide: func(relay.Identity) (uint8, error) {
		if c := class.Load(); c >= 0 {
			return uint8(c), nil
		}
		return 0, relay.ErrDenied
	}}
	h.SetInterceptor(r)
	h.SetAuthorizer(relay.Open{}, 20*time.Millisecond)
	_, s := connectTo(t, h, relay.Identity{ID: "1", Key: "1"})
	class.Store(2)
	testkit.Eventually(t, "the other class", func() bool {
		h.Deliver([]relay.Event{r.event("a")})
		return slices.Contains(s.got(), "a for 2")
	})
	class.Store(-1)
	testkit.Eventually(t, "the end of the subscription", func() bool { return slices.Contains(s.got(), "left [jobs-1]") })
}

// TestNoClassOfAnotherGeneration: while rules change, sessions come and go and events are delivered, no client gets an
// event for a class that it does not have by the rules of that event.
func TestNoClassOfAnotherGeneration(t *testing.T) {
	h, _ := newHub(t)
	classOf := func(generation uint64, user int) uint8 { return uint8((generation*7 + uint64(user)) % 5) }
	r := &rules{generation: 1, decide: always(0)}
	decide := func(generation uint64) func(relay.Identity) (uint8, error) {
		return func(id relay.Identity) (uint8, error) {
			var user int
			_, err := fmt.Sscan(id.Name, &user)
			if class := classOf(generation, user); class < 4 {
				return class, err
			}
			return 0, relay.ErrDenied
		}
	}
	r.decide = decide(1)
	h.SetInterceptor(r)
	stop := make(chan struct{})
	var background sync.WaitGroup
	loop := func(f func()) {
		background.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					f()
				}
			}
		})
	}
	loop(func() {
		generation := r.Generation("")
		ev := r.event(fmt.Sprint(generation))
		ev.Redaction.Generation = generation
		h.Deliver([]relay.Event{ev, {Group: "jobs-1", Text: []byte("open")}})
	})
	loop(func() {
		r.change(h, decide(r.Generation("")+1))
		time.Sleep(time.Duration(rand.IntN(500)) * time.Microsecond)
	})
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			for n := range 20 {
				user := i*100 + n
				s := newSocket()
				session := h.Open(s, relay.Identity{Name: fmt.Sprint(user)}, netip.Addr{})
				sub, err := session.Authorize(context.Background(), "jobs-1", false)
				if err == nil {
					_, _ = session.Subscribe(context.Background(), []relay.Subscription{sub})
					for deadline := time.Now().Add(20 * time.Millisecond); time.Now().Before(deadline) && len(s.got()) < 50; {
						time.Sleep(time.Millisecond)
					}
				}
				session.Close()
				for _, text := range s.got() {
					var generation uint64
					var class uint8
					if n, _ := fmt.Sscanf(text, "%d for %d", &generation, &class); n == 2 &&
						class != classOf(generation, user) {
						t.Errorf("user %d got %q, want class %d", user, text, classOf(generation, user))
					}
				}
			}
		})
	}
	clients.Wait()
	close(stop)
	background.Wait()
}
