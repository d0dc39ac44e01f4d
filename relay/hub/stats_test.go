package hub_test

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// Each delivery counts once in the lag histogram, in the bucket of its event's age.
func TestLagCountsDeliveries(t *testing.T) {
	h, _ := newHub(t)
	for class := range uint8(3) {
		session, _ := open(h)
		subscribeAs(t, h, session, class, "g")
	}
	now := time.Now()
	h.Deliver([]relay.Event{
		{Group: "g", Text: []byte("1"), Sent: now.Add(-1700 * time.Millisecond)},
		{Group: "g", Text: []byte("2"), Sent: now},
	})
	h.Deliver([]relay.Event{{Group: "g", Text: []byte("3"), Sent: now.Add(time.Hour)}})
	h.Deliver([]relay.Event{{
		Group: "g", Text: []byte("4"), Sent: now.Add(-time.Hour), Redaction: &relay.Redaction{Classes: 1<<0 | 1<<2},
	}})
	h.Deliver([]relay.Event{{Group: "g", Text: []byte("5")}})
	testkit.Eventually(t, "all deliveries", func() bool { return h.Stats().Deliveries == 3*4+2 })
	testkit.Eventually(t, "all counted", func() bool {
		n := uint64(0)
		for _, c := range h.Stats().Lag.Counts {
			n += c
		}
		return n == 3*3+2 // the time of event 5 is unknown
	})
	lag := h.Stats().Lag
	at := func(d time.Duration) int {
		for i, bound := range hub.LagBounds {
			if bound == d {
				return i
			}
		}
		t.Fatal(d, "is no bound")
		return 0
	}
	if n := lag.Counts[at(2500*time.Millisecond)]; n != 6 {
		t.Errorf("%d at 1.7 s, want the 6 deliveries of two events in the same job; all: %v", n, lag)
	}
	if lag.Counts[0] != 3 || lag.Skewed != 3 {
		t.Errorf("%d in the lowest bucket, %d from the future; want 3 and 3", lag.Counts[0], lag.Skewed)
	}
	if n := lag.Counts[len(hub.LagBounds)]; n != 2 {
		t.Errorf("%d beyond the last bound, want the 2 of two classes", n)
	}
	if least := 2*time.Hour + 6*1700*time.Millisecond; lag.Sum < least || lag.Sum > least+time.Minute {
		t.Errorf("sum %v, want a little over %v", lag.Sum, least)
	}
}

// A slow consumer that was disconnected counts once, a closing client does not count; both miss events.
func TestMissedDeliveriesAreCounted(t *testing.T) {
	h, _ := newHub(t)
	slowSession, slow := open(h)
	closingSession, closing := open(h)
	wellSession, _ := open(h)
	for _, s := range []*hub.Session{slowSession, closingSession, wellSession} {
		subscribe(t, h, s, "g")
	}
	slow.mu.Lock()
	slow.refuse, slow.slow, slow.waiting = true, true, 1000
	slow.mu.Unlock()
	closing.mu.Lock()
	closing.refuse, closing.waiting = true, 10
	closing.mu.Unlock()
	for round := range uint64(2) { // a single event, then several in a round
		wait := func(each uint64) {
			t.Helper()
			testkit.Eventually(t, "a round", func() bool {
				s := h.Stats()
				return s.Deliveries == 3*round+each && s.Missed == 2*s.Deliveries
			})
		}
		h.Deliver([]relay.Event{{Group: "g", Text: []byte("1")}})
		wait(1)
		h.Deliver([]relay.Event{
			{Group: "g", Text: []byte("1")}, {Group: "unused", Text: []byte("2")}, {Group: "g", Text: []byte("3")},
		})
		wait(3)
	}
	s := h.Stats()
	if s.Missed != 12 || s.MissedSlow != 6 || s.Slow != 1 || s.Deliveries != 6 {
		t.Errorf("missed %d, of slow clients %d, slow clients %d, delivered %d; want 12, 6, 1, 6", s.Missed,
			s.MissedSlow, s.Slow, s.Deliveries)
	}
	if s.EventsFromLayer != s.Fanned+s.Unheard || s.Unheard != 2 {
		t.Errorf("%d events in, %d fanned out, %d unheard", s.EventsFromLayer, s.Fanned, s.Unheard)
	}
	testkit.Eventually(t, "empty queues", func() bool { return h.Backlog().Shards[0] == 0 })
	if b := h.Backlog(); b.Sockets != 2 || b.SocketBytes != 1010 || b.MostBytes != 1000 {
		t.Errorf("backlog %+v", b)
	}
}

func TestKindsAreCounted(t *testing.T) {
	h, _ := newHub(t)
	var sessions []*hub.Session
	for _, k := range []relay.Kind{relay.User, relay.Superuser, relay.Superuser, relay.Anybody, 200} {
		sessions = append(sessions, h.Open(newSocket(), relay.Identity{ID: "1", Kind: k}, netip.Addr{}))
	}
	byKind := h.Stats().ByKind
	if byKind[relay.User] != 2 || byKind[relay.Superuser] != 2 || byKind[relay.Anybody] != 1 ||
		byKind[relay.Auditor] != 0 || len(byKind) != 4 {
		t.Errorf("%v; want two users (one of an unknown kind), two superusers, one anybody", byKind)
	}
	for _, s := range sessions {
		s.Close()
	}
	for k, n := range h.Stats().ByKind {
		if n != 0 {
			t.Errorf("%d sessions of a %v after all were closed", n, k)
		}
	}
}

// dropper drops events with the text "drop", and copies "split" to a group without clients.
type dropper struct{}

func (dropper) Classify(context.Context, relay.Identity, string) (c relay.Classification, err error) {
	return c, nil
}

func (dropper) Intercept(events []relay.Event) (out []relay.Event) {
	for _, ev := range events {
		switch string(ev.Text) {
		case "drop":
			ev.Discard("plugin")
		case "split":
			other := ev
			other.Group = "unused"
			out = append(out, ev, other)
		default:
			out = append(out, ev)
		}
	}
	return out
}

// Every second event has a journey, with all times and the outcome.
func TestTraceReportsJourneys(t *testing.T) {
	h, _ := newHub(t)
	h.SetInterceptor(dropper{})
	for range 5 { // on several shards
		session, _ := open(h)
		subscribe(t, h, session, "g")
	}
	var mu sync.Mutex
	var got []hub.Journey
	h.Trace(2, func(j hub.Journey) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, j)
	})
	sent := time.Now().Add(-time.Second)
	for _, text := range []string{"plain", "drop", "split", "\xff", "", "unheard"} {
		group := "g"
		if text == "unheard" {
			group = "unused"
		}
		h.Deliver([]relay.Event{ // the second is sampled
			{Group: group, Text: []byte("not sampled"), Source: relay.FromPeer},
			{Group: group, Text: []byte(text), Source: relay.FromPeer, Sent: sent},
		})
	}
	outcomes := []string{"delivered", "plugin", "delivered", "not_utf8", "delivered", "no_client"}
	journeys := func() []hub.Journey { mu.Lock(); defer mu.Unlock(); return got }
	testkit.Eventually(t, "all journeys", func() bool { return len(journeys()) == len(outcomes) })
	count := map[string]int{}
	for _, j := range journeys() {
		count[j.Outcome]++
		if j.Source != relay.FromPeer || !j.Sent.Equal(sent) || j.Arrived.Before(sent) || j.Group == "" {
			t.Errorf("%+v", j)
		}
		switch j.Outcome {
		case "delivered":
			if j.Clients != 5 || j.FannedOut.Before(j.Arrived) ||
				j.Written.Before(j.FannedOut.Truncate(time.Microsecond)) {
				t.Errorf("%+v: want 5 clients, and the times in order", j)
			}
		case "plugin":
			if !j.FannedOut.IsZero() || !j.Written.IsZero() {
				t.Errorf("%+v: want no times: no client got the event", j)
			}
		default:
			if j.FannedOut.IsZero() || !j.Written.IsZero() || j.Clients != 0 {
				t.Errorf("%+v: want no write: no client got the event", j)
			}
		}
	}
	for _, o := range outcomes {
		count[o]--
	}
	for o, n := range count {
		if n != 0 {
			t.Errorf("outcome %q: %d too many", o, n)
		}
	}
	h.Trace(0, nil)
	h.Deliver([]relay.Event{{Group: "g"}, {Group: "g"}, {Group: "g"}})
	testkit.Eventually(t, "the last events", func() bool { return h.Stats().Deliveries >= 5*(5+3+3) })
	if n := len(journeys()); n != len(outcomes) {
		t.Errorf("%d journeys after the end of tracing, want no more", n)
	}
}

// Batches of any size give a journey per thousand events.
func TestTraceSamplesEvenly(t *testing.T) {
	h, _ := newHub(t)
	session, _ := open(h)
	subscribe(t, h, session, "g")
	var mu sync.Mutex
	n := 0
	h.Trace(1000, func(hub.Journey) { mu.Lock(); n++; mu.Unlock() })
	for sizes, i := []int{1, 7, 512, 3000}, 0; i < 10_000; {
		size := min(sizes[i%len(sizes)], 10_000-i)
		events := make([]relay.Event, size)
		for k := range events {
			events[k] = relay.Event{Group: "g", Text: []byte("x")}
		}
		h.Deliver(events)
		i += size
	}
	testkit.Eventually(t, "ten of ten thousand", func() bool { mu.Lock(); defer mu.Unlock(); return n == 10 })
}

// Events for the node's own listeners, such as the copies for peers, do not count as events without clients.
func TestListenedEventsAreNotUnheard(t *testing.T) {
	h, _ := newHub(t)
	heard := 0
	stop := h.Listen(t.Context(), "g", func(relay.Event) { heard++ })
	defer stop()
	h.Deliver([]relay.Event{{Group: "g", Text: []byte("1")}, {Group: "unused", Text: []byte("2")}})
	if s := h.Stats(); heard != 1 || s.Control != 1 || s.Unheard != 1 || s.EventsFromLayer != 2 {
		t.Errorf("heard %d; %+v", heard, s)
	}
}
