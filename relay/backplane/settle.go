package backplane

import (
	"errors"
	"time"

	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// proofEvery is the time between two looks whether a link has given a sign of life.
	proofEvery = 5 * time.Millisecond
	// retireWait is the time that the other side has to take over its part as well, before this node closes the link that
	// it has dialed in vain; retireLimit is the same for a link that the other side has dialed. A relay of an earlier
	// version does not close it by itself.
	retireWait, retireLimit = time.Second, 3 * time.Second
	// reasonRedundant is the reason of the close frame for one of two links.
	reasonRedundant = "redundant"
)

// errSilent ends a link that gives no sign of life once another link to the same node has taken its place.
var errSilent = errors.New("no answer; another link to this node has taken over")

// enlist makes a link one of those to relays, and announces this node's layer over it. interest.mu is held.
func (l *link) enlist(instead bool) {
	l.b.interest.relays[l] = struct{}{}
	if own := l.b.ownLayer(); own != "" { // the identity may have changed since the hello
		l.sendMessage(message{Type: "layer", Layer: own, Instead: instead})
	}
}

// register enlists a link that this node has dialed, unless another link to the same node makes it redundant, which is
// returned: if both sides dial, the link that the node with the smaller id dialed stays.
func (l *link) register() (rival *link) {
	i, instead := &l.b.interest, false
	i.mu.Lock()
	defer i.mu.Unlock()
	for other := range i.relays {
		switch {
		case other.node != l.node || other.ctx.Err() != nil || other.phase() == phaseRetired:
		case other.isStalled():
			instead = true
		case other.dialed || l.b.id > l.node:
			return other
		}
	}
	l.enlist(instead)
	return nil
}

// prove asks a link for a sign of life after the handshake of another link began, and waits for it. Without one, the
// link counts as stalled.
func (l *link) prove(other *link) bool {
	if !l.resumes { // its events in flight would be lost
		return true
	}
	began := relay.Ticks(other.began)
	l.doubt(relay.Ticks(time.Now()))
	for deadline := time.Now().Add(replaceWait); l.out.lastReceived.Load() < began; {
		if l.isStalled() || l.ctx.Err() != nil || time.Now().After(deadline) || !sleep(other.ctx, proofEvery) {
			l.vitals.signal(signalReplaced, relay.Ticks(time.Now()))
			return false
		}
	}
	return true
}

// compete is called once both sides keep a link: of several links to the node one stays, and the source of the layer
// may have to prove that it is still there. instead is set if the peer has found all other links silent.
func (l *link) compete(instead bool) {
	if !l.resumes {
		return
	}
	now, i := relay.Ticks(time.Now()), &l.b.interest
	i.mu.Lock()
	for other := range i.relays {
		switch {
		case other == l || !other.resumes:
		case other.node == l.node && instead:
			other.vitals.signal(signalReplaced, now)
		case other.peer.layer == l.peer.layer && other.phase().isSource():
			other.doubt(now) // l may have come in place of it
		}
	}
	i.mu.Unlock()
	l.b.lookAtLinks()
}

// preferred reports whether l stays rather than other, a link to the same node. Both sides come to the same result,
// unless only one of them has noticed a fault: a link that gives signs of life stays, and of two such links the one
// that the node with the smaller id dialed. If one node dialed both, that node decides: undecided is set on the other
// side. See docs/decisions/backplane.md#which-of-two-links-to-a-node-stays
func (l *link) preferred(other *link) (stays, undecided bool) {
	if a, b := l.vitals.health() == stalled, other.vitals.health() == stalled; a != b {
		return b, false
	}
	if l.dialed != other.dialed {
		return l.dialed == (l.b.id < l.node), false
	}
	return l.began.After(other.began), !l.dialed // the dialing node keeps a second link only if the first is silent
}

// settle makes one of several links to a node take over, and retires the others. interest.mu is held.
func (b *Backplane) settle(node string, now int64, stores bool) {
	var best *link
	var all []*link
	for l := range b.interest.relays {
		if l.node != node || !l.phase().isRelay() || l.ctx.Err() != nil {
			continue
		}
		all = append(all, l)
		if best == nil {
			best = l
		} else if stays, _ := l.preferred(best); stays {
			best = l
		}
	}
	for _, l := range all {
		if l == best {
			continue
		}
		if _, undecided := best.preferred(l); undecided {
			continue
		}
		if best.out.lastReceived.Load() < relay.Ticks(l.began) { // it may be as silent as l was
			best.doubt(now)
			continue
		}
		if l.vitals.health() != stalled && (l.awaitsRefills() || l.sendsRefills()) {
			continue // the answers about the history would be lost
		}
		if l.phase().isSource() {
			b.handOver(l, best, stores)
		}
		l.retire()
	}
}

// awaitsRefills reports whether the peer may be sending earlier events and answers about the history over the link.
func (l *link) awaitsRefills() bool { return l.phase().isSource() && l.catchingUp.Load() }

// sendsRefills reports whether the peer waits for earlier events over the link, and for answers about the history.
func (l *link) sendsRefills() bool {
	s := l.stream.Load()
	return s != nil && s.has(l) && s.queue.isRefilling()
}

// handOver makes one link the source in place of another link to the same node, whose stream continues. interest.mu is
// held.
func (b *Backplane) handOver(from, to *link, stores bool) {
	from.move(signalRetired)
	if to.phase().isSource() {
		return
	}
	to.move(signalChosen)
	groups := b.interest.list()
	if stores {
		groups = append(groups, metricsGroup)
	}
	to.ask(groups)
	to.takeOverUnconfirmed(from)
	from.peer.wakeWaiting()
}

// takeOverUnconfirmed makes the changes of interest that the peer has not confirmed over another link those of this
// one, which was asked in its place. All other groups are in the stream, which continues: if this link ends before its
// answer, nothing of them is missing. interest.mu is held.
func (l *link) takeOverUnconfirmed(from *link) {
	if l.resumes {
		l.peer.unconfirmed = nil
	}
	for _, u := range from.peer.unconfirmed {
		if l.resumes || u.late {
			l.peer.unconfirmed = append(l.peer.unconfirmed, unconfirmed{l.peer.gapSeq, u.groups, u.late})
		}
	}
	from.peer.unconfirmed = nil
}

// retire ends a link in favor of another one to the same node. A living link stays for a moment, so that the other side
// can take over as well, before events in flight are cut off.
func (l *link) retire() {
	l.move(signalRetired)
	if l.vitals.health() == stalled {
		l.end(errSilent)
		return
	}
	wait := retireLimit
	if l.dialed {
		wait = retireWait
	}
	time.AfterFunc(wait, func() {
		if l.ctx.Err() == nil {
			l.closeWith(websocket.StatusNormalClosure, reasonRedundant)
		}
	})
}

// streamMoved ends the link over which the peer got its events before it asked for them over another one. If it is this
// node's source, the other link becomes that, or the end of the source opens a gap. A source that still sends earlier
// events stays until they have arrived; settle ends it then.
func (b *Backplane) streamMoved(from, to *link) {
	_, stores := b.hub.Broker().(relay.KeyStore)
	i := &b.interest
	i.mu.Lock()
	if from.awaitsRefills() && from.ctx.Err() == nil && from.vitals.health() != stalled {
		i.mu.Unlock()
		return
	}
	switch {
	case !from.phase().isSource() || to.phase().isSource():
		from.move(signalRetired)
	case to.phase() == phaseStandby && to.ctx.Err() == nil:
		b.handOver(from, to, stores)
	}
	i.mu.Unlock()
	if from.isStalled() || !b.spawn(func() { from.closeWith(websocket.StatusNormalClosure, reasonRedundant) }) {
		from.end(errReplaced)
	}
}

// betterSource reports whether a link is a better source than another one to a node of the same layer.
func (l *link) betterSource(other *link) bool {
	if l.node != other.node {
		return other.isStalled() && !l.isStalled()
	}
	stays, _ := l.preferred(other)
	return stays
}
