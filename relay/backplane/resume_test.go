package backplane_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/history/ring"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// remembering gives a node a ring for groups that begin with job.
func (n *node) remembering() *node {
	n.hub.SetHistory(ring.New(relay.HistoryPolicy{
		Rules: []relay.HistoryRule{{Pattern: "job*", HistoryLimits: relay.DefaultHistoryLimits}},
	}, time.Now))
	return n
}

// lost returns the number of losses of a cause that a node knows of.
func (n *node) lost(cause relay.LossCause) uint64 {
	counts, _ := n.hub.Losses()
	return counts[cause.String()].Times
}

// swift makes nodes dial again at once.
func swift(s *backplane.Settings) {
	s.Retry, s.Ping, s.Silence = 20*time.Millisecond, time.Second, 5*time.Second
}

// linked starts two nodes, of which to dials from through a proxy.
func linked(t *testing.T, from, to *node, options ...option) *testkit.Proxy {
	link := testkit.StartProxy(t, from.server.Listener.Addr().String())
	from.start(append([]option{swift}, options...)...)
	to.start(append([]option{swift, peersOf("http://" + link.Addr)}, options...)...)
	to.awaitSources(1)
	from.awaitSources(1)
	from.awaitComplete()
	to.awaitComplete()
	return link
}

// awaitComplete waits until no events of peers can be missing.
func (n *node) awaitComplete() {
	n.t.Helper()
	testkit.Eventually(n.t, "nothing incomplete", func() error {
		if n.plane.Incomplete("job-1") {
			return fmt.Errorf("events may be missing")
		}
		return nil
	})
}

// inOrder waits for as many events of each group as given, and checks that they came in order, each once.
func (c *client) inOrder(t testing.TB, want map[string]int) {
	t.Helper()
	total := 0
	for _, n := range want {
		total += n
	}
	testkit.Eventually(t, "all events", func() error {
		if got := c.count(); got < total {
			return fmt.Errorf("%d of %d events", got, total)
		}
		return nil
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	next := map[string]int{}
	for _, text := range c.texts {
		group, number, _ := strings.Cut(text, " ")
		if number != fmt.Sprint(next[group]) {
			t.Fatalf("%s: event %s, want %d", group, number, next[group])
		}
		next[group]++
	}
}

// The link between two relays breaks again and again while events travel both ways: each arrives once and in order, and
// no loss is reported.
func TestBreaksWithoutLoss(t *testing.T) {
	leakCheck(t)
	a, b := newNode(t, memory.NewLayer()).remembering(), newNode(t, memory.NewLayer()).remembering()
	link := linked(t, a, b)
	groups := []string{"job-1", "job-2", "other-1"}
	onA, onB := a.client(groups...), b.client(groups...)
	const rounds, burst = 20, 200
	fromA, fromB := map[string]int{}, map[string]int{}
	for round := range rounds {
		cut := rand.IntN(burst)
		for n := range burst {
			for i, from := range []*node{a, b} {
				g := groups[rand.IntN(len(groups))]
				sent := []map[string]int{fromA, fromB}[i]
				name := []string{"a:", "b:"}[i] + g
				from.emit(g, fmt.Sprint(name, " ", sent[name]))
				sent[name]++
			}
			if n == cut {
				link.Cut()
			}
		}
		if round%5 == 4 { // let the link be established now and then
			a.awaitSources(1)
			b.awaitSources(1)
		}
	}
	all := map[string]int{}
	for _, sent := range []map[string]int{fromA, fromB} {
		for name, n := range sent {
			all[name] = n
		}
	}
	onA.inOrder(t, all)
	onB.inOrder(t, all)
	for _, n := range []*node{a, b} {
		for c := range relay.LossCauseCount {
			if times := n.lost(c); times != 0 {
				t.Errorf("%d losses reported: %v", times, c)
			}
		}
		n.awaitComplete()
	}
	s := a.plane.Stats()
	t.Logf("%d events sent again were dropped", s.Dropped["already_received"])
}

// Events keep the position and the time of the node that got them first.
func TestPositionsTravel(t *testing.T) {
	a, b := newNode(t, memory.NewLayer()).remembering(), newNode(t, memory.NewLayer()).remembering()
	linked(t, a, b)
	var positions [2]chan relay.Position
	for i, n := range []*node{a, b} {
		positions[i] = make(chan relay.Position, 10)
		n.client("job-1", "other-1")
		stop := n.hub.Listen(t.Context(), "job-1", func(ev relay.Event) { positions[i] <- ev.Position })
		t.Cleanup(stop)
	}
	a.emit("job-1", "x")
	if p, q := <-positions[0], <-positions[1]; p != q || p.IsZero() {
		t.Errorf("position %v at the origin, %v at the peer", p, q)
	}
}

// A relay of an earlier version and a newer one exchange events as before. A break is reported as a loss.
func TestOlderRelay(t *testing.T) {
	for _, older := range []int{0, 1} {
		t.Run([]string{"dialed", "dialing"}[older], func(t *testing.T) {
			leakCheck(t)
			nodes := []*node{newNode(t, memory.NewLayer()).remembering(), newNode(t, memory.NewLayer()).remembering()}
			nodes[older].plain = true
			link := linked(t, nodes[0], nodes[1])
			groups := []string{"job-1"}
			c := []*client{nodes[0].client(groups...), nodes[1].client(groups...)}
			emit := func(from, to int) {
				t.Helper()
				for i, n := range nodes {
					for k := from; k < to; k++ {
						n.emit("job-1", fmt.Sprint(i, " ", k))
					}
				}
				for i := range nodes {
					c[i].inOrder(t, map[string]int{"0": to, "1": to})
				}
			}
			emit(0, 100)
			link.Cut()
			for _, n := range nodes {
				testkit.Eventually(t, "the loss", func() error {
					if n.lost(relay.LossPeerLink) == 0 {
						return fmt.Errorf("none")
					}
					return nil
				})
				n.awaitSources(1)
			}
			emit(100, 200)
			for _, n := range nodes {
				for _, p := range n.plane.Peers() {
					if p.Faults != 0 {
						t.Errorf("%+v", p)
					}
				}
			}
		})
	}
}

// While the link is down, more events are emitted than the queue holds: the oldest are lost, and reported with their
// groups.
func TestOverflowDuringABreak(t *testing.T) {
	leakCheck(t)
	a, b := newNode(t, memory.NewLayer()).remembering(), newNode(t, memory.NewLayer()).remembering()
	link := linked(t, a, b, func(s *backplane.Settings) { s.QueueBytes = 64 << 10 })
	c := b.client("job-1", "job-2")
	a.emit("job-1", "first")
	c.exactly(t, set([]string{"first"}))
	link.Stall()
	link.Cut()
	text := strings.Repeat("x", 1000)
	const count = 200
	for n := range count {
		a.emit("job-1", fmt.Sprint(n, " ", text))
	}
	link.Resume()
	testkit.Eventually(t, "the last event", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !slices.Contains(c.texts, fmt.Sprint(count-1, " ", text)) {
			return fmt.Errorf("%d events", len(c.texts))
		}
		return nil
	})
	testkit.Eventually(t, "the loss", func() error {
		counts, _ := b.hub.Losses()
		if got := c.count() - 1 + int(counts[relay.LossPeer.String()].Events); got != count {
			return fmt.Errorf("%d of %d events came or are lost", got, count)
		}
		return nil
	})
	if n := b.lost(relay.LossPeerLink); n != 0 {
		t.Errorf("%d losses of the link, but the peer knows what is lost", n)
	}
}

// A node restarts: its peers report the gap. A group that clients subscribe during a break is a gap, others are not.
func TestRestartAndLateGroups(t *testing.T) {
	leakCheck(t)
	a, b := newNode(t, memory.NewLayer()).remembering(), newNode(t, memory.NewLayer()).remembering()
	link := linked(t, a, b)
	b.client("job-1")
	link.Stall()
	link.Cut()
	testkit.Eventually(t, "the break", func() error {
		if b.sources() > 0 {
			return fmt.Errorf("connected")
		}
		return nil
	})
	if !b.plane.Incomplete("job-1") {
		t.Error("the link is down, and nothing is incomplete")
	}
	b.client("job-2")
	link.Resume()
	testkit.Eventually(t, "the gap of the new group", func() error {
		if b.plane.Incomplete("job-1") || b.lost(relay.LossPeerLink) == 0 {
			return fmt.Errorf("incomplete")
		}
		return nil
	})
	if _, last := b.hub.Losses(); !strings.Contains(last.Text, "job-2") {
		t.Errorf("the last loss: %s", last.Text)
	}
	before := b.lost(relay.LossPeerLink)
	_ = a.plane.Close(t.Context())
	a.start(swift)
	testkit.Eventually(t, "the gap after the restart", func() error {
		if b.lost(relay.LossPeerLink) == before || b.plane.Incomplete("job-1") {
			return fmt.Errorf("none, or incomplete")
		}
		return nil
	})
}
