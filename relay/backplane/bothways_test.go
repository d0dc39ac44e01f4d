package backplane_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// Two nodes send each other more than they can read, and ping each other. Each must keep reading while it answers a
// ping, or both links stall.
func TestBothWaysFull(t *testing.T) {
	leakCheck(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // so that readers are late
	x, y := newNode(t, memory.NewLayer()), newNode(t, memory.NewLayer())
	settings := func(s *backplane.Settings) {
		s.Ping, s.Silence, s.QueueBytes = time.Millisecond, 5*time.Second, 1<<30
	}
	x.start(settings)
	y.start(settings, peersOf(x.server.URL))
	x.awaitSources(1)
	y.awaitSources(1)
	onX, onY := x.client("g-y"), y.client("g-x")
	fromX, fromY := map[string]bool{}, map[string]bool{}
	for i := range 3000 {
		text := fmt.Sprintf(`{"n": %d, "x": %q}`, i, strings.Repeat("x", 30_000))
		x.emit("g-x", text)
		y.emit("g-y", text)
		fromX[text], fromY[text] = true, true
	}
	onX.exactly(t, fromY)
	onY.exactly(t, fromX)
	for _, n := range []*node{x, y} {
		for _, p := range n.plane.Peers() {
			if p.State != backplane.StateConnected || p.RTT <= 0 {
				t.Errorf("%+v", p)
			}
		}
	}
}
