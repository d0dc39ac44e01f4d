package backplane_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// patient makes a silent link stand for so long that a test does not see its end.
func patient(s *backplane.Settings) {
	s.Retry, s.Ping, s.Silence = 20*time.Millisecond, time.Hour, time.Hour
}

// A connection carries nothing more, in one direction or in both, and nobody says so, while new connections work. The
// events move to a new link long before the old one times out, whichever side emits; none is lost or doubled.
func TestSilentConnectionIsReplaced(t *testing.T) {
	for _, c := range []struct {
		name       string
		up, down   bool
		fromDialer bool // the dialing node emits
	}{
		{"both directions", true, true, false},
		{"both directions, dialer emits", true, true, true},
		{"from the dialer", true, false, false},
		{"from the dialer, which emits", true, false, true},
		{"to the dialer", false, true, false},
		{"to the dialer, which emits", false, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dialed, dialer := newNode(t, memory.NewLayer()).remembering(), newNode(t, memory.NewLayer()).remembering()
			link := linked(t, dialed, dialer, patient)
			from, to := dialed, dialer
			if c.fromDialer {
				from, to = dialer, dialed
			}
			got := to.client("job-1")
			sent := 0
			emit := func() {
				from.emit("job-1", fmt.Sprint("job-1 ", sent))
				sent++
			}
			emit()
			got.inOrder(t, map[string]int{"job-1": sent})
			link.Freeze(c.up, c.down)
			frozen := time.Now()
			for range 20 {
				emit()
			}
			got.inOrder(t, map[string]int{"job-1": sent})
			t.Logf("everything arrived %v after the fault", time.Since(frozen).Round(10*time.Millisecond))
			emit()
			got.inOrder(t, map[string]int{"job-1": sent})
			for _, n := range []*node{dialed, dialer} {
				n.awaitLinks(1)
				n.awaitComplete()
				for cause := range relay.LossCauseCount {
					if lost := n.lost(cause); lost != 0 {
						t.Errorf("%d losses: %v", lost, cause)
					}
				}
			}
		})
	}
}

// links returns the number of established connections with relays.
func (n *node) links() (links int) {
	for _, p := range n.plane.Peers() {
		if p.State == backplane.StateConnected && p.Dialect == backplane.EdgeRelay {
			links++
		}
	}
	return links
}

func (n *node) awaitLinks(want int) {
	n.t.Helper()
	testkit.Eventually(n.t, "links", func() error {
		if got := n.links(); got != want {
			return fmt.Errorf("%s has %d links, want %d", n.server.URL, got, want)
		}
		return nil
	})
}

// A node vanishes without a word, and another node takes its place on the same channel layer. Its peers hear the new
// one although the link to the old one still stands.
func TestReplacedNodeIsHeard(t *testing.T) {
	for _, dials := range []bool{true, false} {
		t.Run(fmt.Sprintf("the new node dials=%v", dials), func(t *testing.T) {
			t.Parallel()
			layer := memory.NewLayer()
			peer, old, next := newNode(t, memory.NewLayer()), newNode(t, layer), newNode(t, layer)
			link := testkit.StartProxy(t, peer.server.Listener.Addr().String())
			if dials {
				peer.start(patient)
			} else {
				peer.start(patient, peersOf(next.server.URL))
			}
			old.start(patient, peersOf("http://"+link.Addr))
			peer.awaitSources(1)
			got := peer.client("job-1")
			layerEmits := func(text string) { old.emit("job-1", text) }
			layerEmits("before")
			got.exactly(t, set([]string{"before"}))
			link.Stall()
			began := time.Now()
			if dials {
				next.start(patient, peersOf(peer.server.URL))
			} else {
				next.start(patient)
			}
			testkit.Eventually(t, "the new node as the source", func() error {
				for _, p := range peer.plane.Peers() {
					if p.Source && p.Node == next.plane.ID() {
						return nil
					}
				}
				return fmt.Errorf("it is not")
			})
			t.Logf("source %v after its start", time.Since(began).Round(10*time.Millisecond))
			peer.awaitConfirmed(next)
			next.awaitMembers("job-1", 2) // the old node is one until its link ends
			layerEmits("after")
			got.exactly(t, set([]string{"before", "after"}))
		})
	}
}

// awaitConfirmed waits until another node has this node's subscriptions.
func (n *node) awaitConfirmed(other *node) {
	n.t.Helper()
	testkit.Eventually(n.t, "subscriptions at the other node", func() error {
		for _, p := range other.plane.Peers() {
			if p.Node == n.plane.ID() && p.Groups > 0 {
				return nil
			}
		}
		return fmt.Errorf("none")
	})
}

// awaitMembers waits until a group has so many members in the layer: a node joins after it has heard of subscriptions.
func (n *node) awaitMembers(group string, want int) {
	n.t.Helper()
	probe := relay.Message{Group: group, Type: "test.probe", Text: []byte("{}")} // reaches no client of AWX
	testkit.Eventually(n.t, "members of "+group, func() error {
		receipt, err := n.layer.Broker().PublishMessage(n.t.Context(), probe)
		if err == nil && receipt.Members != want {
			err = fmt.Errorf("%d members, want %d", receipt.Members, want)
		}
		return err
	})
}

// A second node of a layer, even one with the same name, takes nothing over from a node that answers.
func TestLivingSourceStays(t *testing.T) {
	layer := memory.NewLayer()
	peer, first, second := newNode(t, memory.NewLayer()), newNode(t, layer), newNode(t, layer)
	named := func(s *backplane.Settings) { s.Name = "same" }
	brief := func(s *backplane.Settings) {
		s.Retry, s.Ping, s.Silence = 20*time.Millisecond, time.Hour, 400*time.Millisecond
	}
	peer.start(brief)
	first.start(brief, named, peersOf(peer.server.URL))
	peer.awaitSources(1)
	second.start(brief, named, peersOf(peer.server.URL))
	peer.awaitLinks(2)
	doubted := time.Now()
	testkit.Eventually(t, "several times the patience", func() error {
		for _, p := range peer.plane.Peers() {
			if p.Source && p.Node != first.plane.ID() {
				t.Fatal("the second node is the source")
			}
		}
		if time.Since(doubted) < time.Second {
			return fmt.Errorf("not yet")
		}
		return nil
	})
}

// Two nodes that dial each other at the same time, under two URLs each, end with one link.
func TestOneLinkOfSeveral(t *testing.T) {
	leakCheck(t)
	const count = 5
	for range 4 {
		var nodes []*node
		var urls []string
		for range count {
			n := newNode(t, memory.NewLayer())
			nodes, urls = append(nodes, n), append(urls, n.server.URL, "http://"+testkit.StartProxy(t, n.server.Listener.Addr().String()).Addr)
		}
		for _, n := range nodes {
			n.start(peersOf(urls...))
		}
		for _, n := range nodes {
			n.awaitSources(count - 1)
		}
		for _, n := range nodes {
			n.awaitLinks(count - 1)
		}
		for _, n := range nodes {
			if got := n.links(); got != count-1 { // still
				t.Errorf("%d links, want %d", got, count-1)
			}
		}
		for _, n := range nodes {
			n.close()
		}
	}
}
