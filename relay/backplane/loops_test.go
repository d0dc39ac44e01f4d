package backplane_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/backplane"
)

// A relay behind a Python node, whose plugins make events of a relay's before it, learns how many plugins have done so.
// What would begin a count of its own does not get there.
func TestHopsPassPythonNodes(t *testing.T) {
	const group = "job_events-42"
	for generation, want := range map[string][]string{
		peers.RelayNode:     {"hop/1 first", "hop/2 second", " last"},
		peers.BroadcastNode: {" first", " last"},
	} {
		t.Run(generation, func(t *testing.T) {
			t.Parallel()
			own, theirs := peers.StartRedis(t), peers.StartRedis(t)
			n, behind := newRedisNode(t, own.URL), newRedisNode(t, theirs.URL)
			python := peers.NewClusterNode(t, generation, theirs.URL, secret)
			python.Serve()
			settings := func(s *backplane.Settings) { s.AnyEvent = generation == peers.RelayNode }
			if generation == peers.RelayNode {
				n.start(peersOf(python.URL), settings)
				n.awaitPeers(backplane.Relay, true, 1)
				peers.StartEmitter(t, theirs.URL).SendMessage(allGroup, map[string]any{
					"type": "consumer.subscribe", "groups": []string{group}, "origin_channel": "specific.x!1",
				})
			} else {
				n.start(settings)
				python.Dial(n.server.URL)
				n.awaitPeers(backplane.Broadcast, false, 1)
			}
			var mu sync.Mutex
			var got []string
			t.Cleanup(behind.hub.Listen(t.Context(), group, func(ev relay.Event) {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, ev.Sender+" "+string(ev.Text))
			}))
			seen := func(what string) func() bool {
				return func() bool {
					mu.Lock()
					defer mu.Unlock()
					return slices.Contains(got, what)
				}
			}
			publish := func(text string, hops int) {
				m := relay.Message{Group: group, Text: []byte(text), Sender: relay.HopSender(hops)}
				if _, err := n.hub.PublishMessage(context.Background(), m); err != nil {
					t.Fatal(err)
				}
			}
			testkit.Eventually(t, "events behind the node", func() bool {
				publish("ping", 0)
				return seen(" ping")()
			})
			publish("first", 1)
			publish("second", 2)
			publish("last", 0)
			testkit.Eventually(t, "the last event", seen(" last"))
			mu.Lock()
			defer mu.Unlock()
			rest := slices.DeleteFunc(got, func(text string) bool { return text == " ping" })
			if !slices.Equal(rest, want) {
				t.Errorf("got %q, want %q", rest, want)
			}
		})
	}
}
