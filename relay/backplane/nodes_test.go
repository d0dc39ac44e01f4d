package backplane_test

import (
	"fmt"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// Nodes that dial each other, and one with two addresses: each is one node, however many links there are.
func TestNodesAreCountedOnce(t *testing.T) {
	leakCheck(t)
	nodes := []*node{newNode(t, memory.NewLayer()), newNode(t, memory.NewLayer()), newNode(t, memory.NewLayer())}
	away := fmt.Sprint("http://127.0.0.1:", testkit.FreePort(t))
	alias := fmt.Sprint("http://localhost:", nodes[1].server.Listener.Addr().String()[len("127.0.0.1:"):])
	urls := []string{nodes[0].server.URL, nodes[1].server.URL, nodes[2].server.URL, alias, away}
	for _, n := range nodes {
		n.start(peersOf(urls...))
	}
	for _, n := range nodes {
		testkit.Eventually(t, "two nodes and one that is away", func() error {
			list := n.plane.Nodes()
			want := backplane.PeerCount{Connected: 2, Known: 3, Expected: 3, Missing: 1}
			if got := backplane.CountNodes(list); got != want {
				return fmt.Errorf("%+v, want %+v: %+v", got, want, list)
			}
			for _, p := range list {
				if p.State == backplane.StateConnected && (p.Error != "" || !p.Expected) {
					return fmt.Errorf("%+v", p)
				}
				if p.URL == away && (p.Error == "" || p.Expected == false) {
					return fmt.Errorf("%+v", p)
				}
			}
			return nil
		})
	}
}

// The end of the last link is the time since when a node is down, however often it is dialed since.
func TestDownSinceTheEndOfTheLink(t *testing.T) {
	a, b := newNode(t, memory.NewLayer()), newNode(t, memory.NewLayer())
	a.start(peersOf(b.server.URL))
	b.start()
	a.awaitSources(1)
	connected := a.plane.Nodes()[0].Since
	b.close()
	down := func() (p backplane.PeerNode) {
		testkit.Eventually(t, "a node that is down", func() error {
			if p = a.plane.Nodes()[0]; p.State != backplane.StateWaiting {
				return fmt.Errorf("%+v", p)
			}
			return nil
		})
		return p
	}
	first := down()
	if !first.Since.After(connected) {
		t.Errorf("down since %v, connected since %v", first.Since, connected)
	}
	changed := a.plane.Peers()[0].Since
	testkit.Eventually(t, "another attempt", func() error {
		if p := a.plane.Peers()[0]; !p.Since.After(changed) {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
	if again := down(); !again.Since.Equal(first.Since) {
		t.Errorf("down since %v, then since %v", first.Since, again.Since)
	}
}
