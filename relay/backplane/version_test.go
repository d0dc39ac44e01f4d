package backplane_test

import (
	"fmt"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

func versionOf(version string) option {
	return func(s *backplane.Settings) { s.Version = version }
}

// A node shows the versions of its peers, on dialed and accepted links. A relay that sends none is a peer like any
// other.
func TestPeersShowTheirVersions(t *testing.T) {
	a, b, old := newNode(t, memory.NewLayer()), newNode(t, memory.NewLayer()), newNode(t, memory.NewLayer())
	all := peersOf(a.server.URL, b.server.URL, old.server.URL)
	a.start(all, versionOf("v1.2.3"))
	b.start(all, versionOf("v1.3.0"))
	old.start(all)
	versions := func(n *node, want map[string]string) {
		t.Helper()
		testkit.Eventually(t, "versions of peers", func() error {
			got := map[string]string{}
			for _, p := range n.plane.Status().Peers {
				if p.State == backplane.StateConnected {
					got[p.Name] = p.Version
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				return fmt.Errorf("%v; want %v", got, want)
			}
			return nil
		})
	}
	name := func(n *node) string { return n.server.Listener.Addr().String() }
	versions(a, map[string]string{name(b): "v1.3.0", name(old): ""})
	versions(b, map[string]string{name(a): "v1.2.3", name(old): ""})
	versions(old, map[string]string{name(a): "v1.2.3", name(b): "v1.3.0"})
}

// The status of a node counts drops by reason, as the metrics do.
func TestStatusCountsDropsByReason(t *testing.T) {
	n := newNode(t, memory.NewLayer())
	n.start()
	n.plane.Drop("queue_full", 3)
	n.plane.Drop("link_lost", 2)
	if got := n.plane.Status().Dropped; fmt.Sprint(got) != "map[link_lost:2 queue_full:3]" {
		t.Errorf("%v", got)
	}
}
