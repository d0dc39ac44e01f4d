package backplane_test

import (
	"fmt"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/backplane"
)

// awaitSameLayer waits until a node has found out of want peers that they are on its own layer.
func (n *node) awaitSameLayer(want int) {
	n.t.Helper()
	testkit.Eventually(n.t, "peers on the same layer", func() error {
		got := 0
		for _, p := range n.plane.Peers() {
			if p.SameLayer && p.State == backplane.StateConnected {
				got++
			}
		}
		if got != want {
			return fmt.Errorf("%d peers are known to be on the same layer, want %d: %+v", got, want, n.plane.Peers())
		}
		return nil
	})
}

// Whoever shares its Redis with Python nodes, of either generation, in whichever direction they dial, delivers once.
func TestSharedRedisWithPython(t *testing.T) {
	for _, generation := range []string{peers.BroadcastNode, peers.RelayNode} {
		t.Run(generation, func(t *testing.T) {
			redis := peers.StartRedis(t)
			python := peers.NewClusterNode(t, generation, redis.URL, secret)
			python.Serve()
			n := newRedisNode(t, redis.URL)
			n.start(peersOf(python.URL))
			c := n.client("jobs-summary")
			python.Dial(n.server.URL)
			n.awaitSameLayer(2)
			emitter := peers.StartEmitter(t, redis.URL)
			var texts []string
			for i := range 40 {
				text := fmt.Sprintf(`{"n": %d}`, i)
				texts = append(texts, text)
				if generation == peers.RelayNode {
					emitter.Send(peers.Event{Group: "jobs-summary", Text: text})
				} else {
					emitOld(t, emitter, "jobs-summary", text)
				}
			}
			c.exactly(t, set(texts))
			// A second copy would pass through Python processes. A round trip through them proves that no copy is
			// on its way.
			python.Dialling.Kill()
			python.Served.Kill()
			emitter.Send(peers.Event{Group: "jobs-summary", Text: "end"})
			c.exactly(t, set(texts, []string{"end"}))
		})
	}
}

// A relay with a Redis of its own gets the events of a Python task node that connects after the relay's clients
// have subscribed, or reconnects. The clients do nothing; AWX's own web nodes would need their pages reloaded.
func TestTaskNodeHearsOfEarlierSubscriptions(t *testing.T) {
	web, task := peers.StartRedis(t), peers.StartRedis(t)
	n := newRedisNode(t, web.URL)
	n.start()
	one, two := n.client("job_events-1", "jobs-summary"), n.client("job_events-1")
	emitter := peers.StartEmitter(t, task.URL)
	python := peers.NewClusterNode(t, peers.RelayNode, task.URL, secret)
	want := map[string]bool{}
	for round := range 2 {
		python.Dial(n.server.URL)
		testkit.Eventually(t, "one member", func() error { return members(emitter, task.URL, "job_events-1", 1) })
		text := fmt.Sprintf(`{"round": %d}`, round)
		emitter.Send(peers.Event{Group: "job_events-1", Text: text})
		want[text] = true
		one.exactly(t, want)
		two.exactly(t, want)
		// The first client leaves: the group stays. The last one leaves: it goes.
		if round == 1 {
			one.subscribe(n, "jobs-summary")
			emitter.Send(peers.Event{Group: "job_events-1", Text: "two alone"})
			want["two alone"] = true
			two.exactly(t, want)
			two.s.Close()
			testkit.Eventually(t, "no member", func() error {
				if got := emitter.Members(task.URL, "job_events-1"); len(got) != 0 {
					return fmt.Errorf("the task node still has %d members in the group", len(got))
				}
				return nil
			})
			continue
		}
		python.Dialling.Kill()
		emitter.WipeGroups(task.URL)
		n.awaitPeers(backplane.Relay, false, 0)
	}
}
