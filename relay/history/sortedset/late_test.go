package sortedset_test

import (
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/relay"
)

// An event of a peer that comes more than two seconds after newer events, as after a stalled link, is a gap for clients
// that may have left in between: a replay begins behind the event.
func TestLateEventsOfPeers(t *testing.T) {
	for _, late := range []time.Duration{1900, 2050, 2300, 2700, 3100, 12_000} {
		late *= time.Millisecond
		t.Run(late.String(), func(t *testing.T) {
			c := newClock()
			c.advance(200 * time.Millisecond)
			n := newNode(t, peers.StartRedis(t), c)
			before := n.emit("job1", "a")[0]
			c.advance(20 * time.Second)
			newest := n.emit("job1", "b")[0]
			ev := n.event("job1", "of a peer", c.now().Add(-late))
			ev.Source = relay.FromPeer
			n.Record([]relay.Event{ev})
			want := error(nil)
			if late > 2*time.Second {
				want = relay.NotRecoveredGap
			}
			wantResumable(t, n.read("job1", before, newest), nil, want)
			c.advance(3 * time.Second)
			wantResumable(t, n.read("job1", n.emit("job1", "c")[0]), nil)
		})
	}
}
