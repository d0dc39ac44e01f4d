package sortedset_test

import (
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/relay"
)

// Redis has lost a key, and the next event creates it again. The key gets a lifetime, also if the group is left before
// the next renewal or was left before.
func TestKeyOfALeftGroupExpires(t *testing.T) {
	for _, c := range []struct {
		name string
		lose func(n *node)
	}{
		{"left after the event", func(n *node) {
			n.emit("job1", "b")
			n.Left([]string{"job1"})
		}},
		{"left before the event", func(n *node) {
			n.Left([]string{"job1"})
			n.tick()
			n.emit("job1", "b")
		}},
		{"left before an event of a peer", func(n *node) {
			n.Left([]string{"job1"})
			n.tick()
			ev := n.event("job1", "b")
			ev.Source = relay.FromPeer
			n.Record([]relay.Event{ev})
			n.tick()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			server, clock := peers.StartRedis(t), newClock()
			n := newNode(t, server, clock)
			n.Joined([]string{"job1"})
			n.emit("job1", "a")
			n.tick()
			clock.advance(time.Second)
			server.Do("FLUSHALL")
			c.lose(n)
			for range 4 { // a renewal is due after a quarter of the lifetime, which is two minutes
				clock.advance(20 * time.Second)
				n.tick()
			}
			if ttl, _ := server.Do("PTTL", "edgerelay:history:asgi:g:job1").(int64); ttl == -1 {
				t.Error("the key lives for ever")
			}
		})
	}
}
