package backplane_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// Three nodes dial each other in both directions over links that are cut, stalled and slowed down at random, while each
// of them emits. Every client gets each event once and in order, and no loss is reported. One node behaves like a relay
// of an earlier version in the second case: then events may be missing, but only with a reported loss.
func TestRandomCuts(t *testing.T) {
	for _, older := range []bool{false, true} {
		t.Run(fmt.Sprintf("older=%v", older), func(t *testing.T) {
			leakCheck(t)
			testRandomCuts(t, older)
		})
	}
}

func testRandomCuts(t *testing.T, older bool) {
	const count, rounds, burst = 3, 80, 20
	var nodes []*node
	var links []*testkit.Proxy
	for range count {
		nodes = append(nodes, newNode(t, memory.NewLayer()).remembering())
	}
	nodes[0].plain = older
	for i, n := range nodes {
		var urls []string
		for j, other := range nodes {
			if i != j {
				p := testkit.StartProxy(t, other.server.Listener.Addr().String())
				links, urls = append(links, p), append(urls, "http://"+p.Addr)
			}
		}
		n.start(peersOf(urls...), func(s *backplane.Settings) {
			s.Retry, s.Ping, s.Silence = 20*time.Millisecond, 100*time.Millisecond, 500*time.Millisecond
		})
	}
	for _, n := range nodes {
		n.awaitSources(count - 1)
		n.awaitComplete()
	}
	groups := []string{"job-1", "job-2", "other-1"}
	var clients []*client
	for _, n := range nodes {
		clients = append(clients, n.client(groups...))
	}
	sent := map[string]int{}
	for range rounds {
		for range burst {
			from := rand.IntN(count)
			g := groups[rand.IntN(len(groups))]
			name := fmt.Sprintf("%d:%s", from, g)
			nodes[from].emit(g, fmt.Sprint(name, " ", sent[name]))
			sent[name]++
		}
		switch p := links[rand.IntN(len(links))]; rand.IntN(5) {
		case 0, 1:
			p.Cut()
		case 2:
			p.Stall()
		case 3:
			p.Slow(time.Millisecond)
		default:
			p.Resume()
		}
	}
	for _, p := range links {
		p.Resume()
	}
	if !older {
		for i, c := range clients {
			c.inOrder(t, sent)
			for cause := range relay.LossCauseCount {
				if n := nodes[i].lost(cause); n != 0 {
					t.Errorf("node %d reports %d losses: %v", i, n, cause)
				}
			}
		}
	}
	for i, n := range nodes {
		n.awaitSources(count - 1)
		n.awaitComplete()
		clients[i].mayLack(t, n, sent)
	}
}

// mayLack checks that no event came twice or out of order, and that a loss is reported if events are missing.
func (c *client) mayLack(t *testing.T, n *node, want map[string]int) {
	t.Helper()
	total := 0
	for _, n := range want {
		total += n
	}
	testkit.Eventually(t, "all events, or a loss", func() error {
		reported := n.lost(relay.LossPeerLink) + n.lost(relay.LossPeer) // later, if the last cut is not noticed yet
		if got := c.count(); got < total && reported == 0 {
			return fmt.Errorf("%d of %d events", got, total)
		}
		return nil
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	next := map[string]int{}
	for _, text := range c.texts {
		var name string
		var number int
		if _, err := fmt.Sscan(text, &name, &number); err != nil {
			t.Fatal(err)
		}
		if number < next[name] {
			t.Fatalf("%s: event %d after %d", name, number, next[name]-1)
		}
		next[name] = number + 1
	}
}

// Groups are subscribed and left while the links break: every event behind the subscription comes, or a loss of its
// group is reported.
func TestSubscriptionsWhileLinksBreak(t *testing.T) {
	leakCheck(t)
	a, b := newNode(t, memory.NewLayer()).remembering(), newNode(t, memory.NewLayer()).remembering()
	link := linked(t, a, b, func(s *backplane.Settings) { s.JoinWait = time.Millisecond })
	for round := range 30 {
		group := fmt.Sprint("job-", round)
		if rand.IntN(2) == 0 {
			link.Cut()
		}
		before := b.lost(relay.LossPeerLink)
		c := &client{}
		c.s = b.hub.Open(c, relay.Identity{}, netip.Addr{})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if _, err := c.s.Subscribe(ctx, relay.Groups(group)); err != nil {
			t.Fatal(err)
		}
		cancel()
		a.emit(group, "x")
		testkit.Eventually(t, "the event, or a loss", func() error {
			if c.count() == 1 || b.lost(relay.LossPeerLink) > before {
				return nil
			}
			a.emit("job-none", "x")
			return fmt.Errorf("neither in %s", group)
		})
		if rand.IntN(2) == 0 {
			link.Cut()
		}
		c.s.Close()
	}
}
