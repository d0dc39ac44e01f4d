package hub_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

func subscribeAs(t testing.TB, h *hub.Hub, s *hub.Session, class uint8, groups ...string) relay.Change {
	t.Helper()
	subs := relay.Groups(groups...)
	for i := range subs {
		subs[i].Class = class
	}
	c, err := s.Subscribe(context.Background(), subs)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Subscribers of four classes: each gets the events for its class in order, with plain events between.
func TestEachClassGetsItsRendering(t *testing.T) {
	h, _ := newHub(t)
	var sockets [4][]*socket
	for i := range 40 {
		session, s := open(h)
		subscribeAs(t, h, session, uint8(i%4), "g")
		sockets[i%4] = append(sockets[i%4], s)
	}
	var mu sync.Mutex
	rendered := map[uint8]int{}
	render := func(class uint8) ([]byte, bool) {
		mu.Lock()
		rendered[class]++
		mu.Unlock()
		if class == 2 {
			return nil, false
		}
		return fmt.Appendf(nil, "for %d", class&^1), true
	}
	h.Deliver([]relay.Event{
		{Group: "g", Text: []byte("all")},
		{Group: "g", Text: []byte("0 and 3"), Redaction: &relay.Redaction{Classes: 1<<0 | 1<<3}},
		{Group: "g", Text: []byte("no class"), Redaction: &relay.Redaction{}},
		{Group: "g", Text: []byte("not shown"), Redaction: &relay.Redaction{
			Classes: 1<<0 | 1<<1 | 1<<2 | 1<<63, Render: render,
		}},
		{Group: "g", Text: []byte("all again")},
	})
	want := [4][]string{
		{"all", "0 and 3", "for 0", "all again"},
		{"all", "for 0", "all again"},
		{"all", "all again"},
		{"all", "0 and 3", "all again"},
	}
	for class, list := range sockets {
		for i, s := range list {
			testkit.Eventually(t, "all events", func() bool { return len(s.got()) >= len(want[class]) })
			if got := s.got(); !slices.Equal(got, want[class]) {
				t.Errorf("client %d of class %d got %q, want %q", i, class, got, want[class])
			}
		}
	}
	if rendered[0] != 1 || rendered[1] != 1 || rendered[2] != 1 || len(rendered) != 3 {
		t.Errorf("rendered %v, want each class that is present and in the mask once", rendered)
	}
	testkit.Eventually(t, "120 deliveries", func() bool { return h.Stats().Deliveries == 120 })
	if missed := h.Stats().Missed; missed != 0 {
		t.Errorf("%d deliveries missed, want 0: events for other classes are not missed", missed)
	}
}

// A subscription changes its class without leaving the group.
func TestClassChangeKeepsSubscription(t *testing.T) {
	h, _ := newHub(t)
	session, s := open(h)
	render := func(class uint8) ([]byte, bool) { return fmt.Append(nil, class), true }
	for i := range 3 {
		c := subscribeAs(t, h, session, uint8(i), "g")
		if i > 0 && len(c.Joined)+len(c.Left) != 0 {
			t.Errorf("joined %q, left %q", c.Joined, c.Left)
		}
		h.Deliver([]relay.Event{{Group: "g", Redaction: &relay.Redaction{Classes: everyClass, Render: render}}})
		testkit.Eventually(t, "the event", func() bool { return len(s.got()) == i+1 })
	}
	if got := s.got(); !slices.Equal(got, []string{"0", "1", "2"}) {
		t.Errorf("got %q", got)
	}
}

const everyClass = ^uint64(0)

// While clients of different classes come and go, no client gets an event of another class.
func TestNoClientGetsAnotherClass(t *testing.T) {
	h, _ := newHub(t)
	render := func(class uint8) ([]byte, bool) { return fmt.Append(nil, class), true }
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				h.Deliver([]relay.Event{
					{Group: "g", Redaction: &relay.Redaction{Classes: everyClass, Render: render}},
					{Group: "g", Text: []byte("5"), Redaction: &relay.Redaction{Classes: 1 << 5}},
				})
			}
		}
	})
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(i)))
			for range 50 {
				class := uint8(r.IntN(8))
				session, s := open(h)
				subscribeAs(t, h, session, class, "g")
				for deadline := time.Now().Add(testkit.Patience); len(s.got()) == 0; runtime.Gosched() {
					if time.Now().After(deadline) {
						t.Error("no event")
						return
					}
				}
				session.Close()
				for _, text := range s.got() {
					if text != fmt.Sprint(class) {
						t.Errorf("a client of class %d got %q", class, text)
					}
				}
			}
		})
	}
	clients.Wait()
	close(stop)
	wg.Wait()
}

type strict struct{}

func (strict) Intercept(events []relay.Event) []relay.Event { return nil }

func (strict) Classify(_ context.Context, id relay.Identity, group string) (relay.Classification, error) {
	if group == "secret" {
		return relay.Classification{}, relay.ErrDenied
	}
	return relay.Classification{Class: uint8(len(id.Key))}, nil
}

// The interceptor classifies, and may hold events back and forward the events later.
func TestInterceptorClassifiesAndForwards(t *testing.T) {
	h, emitter := newHub(t)
	id := relay.Identity{Key: "abc"}
	if c, err := h.Classify(context.Background(), id, "secret"); c.Class != 0 || err != nil {
		t.Errorf("without an interceptor: %v, %v", c, err)
	}
	h.SetInterceptor(strict{})
	if _, err := h.Classify(context.Background(), id, "secret"); !errors.Is(err, relay.ErrDenied) {
		t.Errorf("denied group: %v", err)
	}
	if c, err := h.Classify(context.Background(), id, "g"); c.Class != 3 || err != nil {
		t.Errorf("class %v, %v", c, err)
	}
	session, s := open(h)
	subscribe(t, h, session, "g")
	publish(t, emitter, "g", "held back")
	h.Forward([]relay.Event{{Group: "g", Text: []byte("later")}})
	testkit.Eventually(t, "the event", func() bool { return len(s.got()) == 1 })
	if got := s.got(); got[0] != "later" {
		t.Errorf("got %q", got)
	}
}
