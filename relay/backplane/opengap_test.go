package backplane

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// losingNode is a hub that keeps losses. Its history outlives the process.
type losingNode struct {
	relay.Node
	history relay.History
	losses  []relay.Loss
}

func (n *losingNode) Lost(l relay.Loss)      { n.losses = append(n.losses, l) }
func (n *losingNode) Broker() relay.Broker   { return nil }
func (n *losingNode) History() relay.History { return n.history }

// newGapTest returns a backplane with the interest in a group.
func newGapTest(t *testing.T) (*Backplane, *losingNode) {
	n := &losingNode{history: struct{ relay.History }{}}
	settings := Settings{Secrets: Secrets{"0123456789abcdef0123456789abcdef"}, QueueAge: time.Minute}
	b, err := New(n, settings, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.endGaps()
		b.stop()
	})
	b.interest.told = true
	b.interest.groups["a"] = struct{}{}
	return b, n
}

// A gap is open for long. Clients do not resume until the history is marked: with the first report if another node has
// the same history, since that node may know of no gap, and otherwise after ten minutes.
func TestOpenGapMarksTheHistory(t *testing.T) {
	for name, layers := range map[string][]string{
		"alone": nil, "with a node of the layer": {"own"}, "with others": {"other"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, n := newGapTest(t)
				b.layer.id = "own"
				for _, layer := range layers {
					b.interest.relays[&link{b: b, peer: peerState{layer: layer}}] = struct{}{}
				}
				began := time.Now()
				b.interest.mu.Lock()
				b.openGap("peer", "node", nil)
				b.interest.mu.Unlock()
				b.interest.gaps["peer"].timer.Stop() // it is late
				time.Sleep(b.gapWait())
				b.reportOpenGap("peer", b.interest.gaps["peer"])
				if len(n.losses) != 1 || n.losses[0].Pending == (name == "with a node of the layer") {
					t.Errorf("losses: %+v", n.losses)
				}
				b.interest.gaps["peer"].timer.Stop()
				time.Sleep(gapForgotten - time.Since(began))
				if !b.Incomplete("a") {
					t.Error("clients resume before the history is marked")
				}
				b.reportOpenGap("peer", b.interest.gaps["peer"])
				if len(n.losses) != 2 || n.losses[1].Pending || b.Incomplete("a") {
					t.Errorf("losses after ten minutes: %+v", n.losses)
				}
			})
		})
	}
}

// Events are being fetched over a link that has taken the stream over from another one: there is no gap, and they are
// missing anyway. If they are given up, clients do not resume until the peer has reported the loss.
func TestFetchedEventsAreIncompleteWithoutAGap(t *testing.T) {
	b, _ := newGapTest(t)
	l := &link{b: b, resumes: true, refetches: true, in: &incoming{}}
	l.phaseNow.Store(int32(phaseSource))
	b.interest.relays[l] = struct{}{}
	l.peer.announced, l.peer.continued, l.peer.filled = true, true, map[string]bool{}
	l.peer.refilling = map[string]struct{}{"a": {}}
	if !b.Incomplete("a") {
		t.Error("clients resume while events are fetched")
	}
	l.receiveRefilled(message{Groups: []string{"a"}, Missing: []string{"a"}})
	if !b.Incomplete("a") {
		t.Error("clients resume before the loss is reported")
	}
	if l.handleLoss(message{Count: 1, Groups: []string{"a"}}); b.Incomplete("a") {
		t.Error("clients do not resume after the report")
	}
	l.receiveRefilled(message{Groups: []string{"a"}, Missing: []string{"a"}}) // over each further link
	if b.Incomplete("a") {
		t.Error("a hole that was reported keeps clients from resuming")
	}
}
