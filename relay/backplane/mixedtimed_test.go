package backplane_test

import (
	"fmt"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// peer returns the state of a node's only peer.
func (n *node) peer() (connected backplane.Peer) {
	n.t.Helper()
	testkit.Eventually(n.t, "a connected peer", func() bool {
		for _, connected = range n.plane.Peers() {
			if connected.State == backplane.StateConnected {
				return true
			}
		}
		return false
	})
	return connected
}

// Relays of each version exchange events with each other version, in both directions and over breaks of the link.
// Between relays of this version, both know the other's clock.
func TestVersionsOfRelays(t *testing.T) {
	for name, earlier := range map[string]func(*node){
		"same version":     func(*node) {},
		"before timed":     func(n *node) { n.untimed = true },
		"without features": func(n *node) { n.plain = true },
	} {
		t.Run(name, func(t *testing.T) {
			leakCheck(t)
			a, b := newNode(t, memory.NewLayer()), newNode(t, memory.NewLayer())
			earlier(b)
			link := linked(t, a, b)
			onA, onB := a.client("job-1"), b.client("job-1")
			for round := range 2 {
				fromA, fromB := fmt.Sprint("from a ", round), fmt.Sprint("from b ", round)
				for _, n := range []*node{a, b} {
					n.awaitSources(1)
					n.awaitComplete() // A relay without features sends events once it knows the groups of its peer.
				}
				a.emit("job-1", fromA)
				b.emit("job-1", fromB)
				want := set([]string{fromA, fromB})
				onA.exactly(t, want)
				onB.exactly(t, want)
				onA.forget()
				onB.forget()
				if round == 0 {
					since := a.peer().Since
					link.Cut()
					testkit.Eventually(t, "another link", func() bool {
						return a.sources() == 1 && !a.peer().Since.Equal(since)
					})
				}
			}
			for _, n := range []*node{a, b} {
				testkit.Eventually(t, "the peer's clock", func() error {
					p := n.peer()
					if timed := p.ClockError > 0; timed != (name == "same version") {
						return fmt.Errorf("the peer's clock is known within %v s", p.ClockError)
					}
					if p.ClockError > 5*testkit.Patience.Seconds() || p.ClockBehind > p.ClockError+1 {
						return fmt.Errorf("the peer is %v s behind, within %v s", p.ClockBehind, p.ClockError)
					}
					return nil
				})
				if p := n.peer(); p.Faults != 0 {
					t.Errorf("%d faults", p.Faults)
				}
			}
		})
	}
}
