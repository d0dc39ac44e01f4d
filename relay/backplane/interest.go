package backplane

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// interest is the set of groups subscribed on this node, and the peers that receive the announcements. The hub calls
// Interest under a lock of its own, so no code may call the hub while mu is held.
// See docs/decisions/backplane.md#why-is-listening-for-a-peer-not-interest
type interest struct {
	mu      sync.Mutex
	groups  map[string]struct{}
	relays  map[*link]struct{} // established links to relays; sources receive the interest
	tasks   map[*link]struct{} // Python task nodes; all receive the interest
	gaps    map[string]*gap    // by layer or Python node: layers that have no source at the moment
	seen    map[string]bool    // layers and Python nodes that have been a source
	recents map[string]*recent // by layer
	told    bool               // the history knows that events may be missing from before the first source
}

// peerState is the state of a relay: its layer and its progress with this node's interest. interest.mu guards it,
// except for the atomic fields.
type peerState struct {
	layer        string // identity of the peer's channel layer
	askedSeq     uint64 // sequence number of the last change sent
	confirmedSeq atomic.Uint64
	confirmed    chan struct{} // closed and replaced when confirmedSeq grows
	// gapSeq is the sequence number with which the peer became the source of its layer.
	gapSeq uint64
	// asked are the groups that it was asked for then.
	asked []string
	// announced is set once the peer has announced the stream that it was asked for. until is the number of the last event
	// from the time of the break.
	announced bool
	until     uint64
	// continued is set if it continues the stream that this node knows.
	continued bool
	// refilling are the groups whose earlier events the peer was asked for, without an answer; filled are those that it
	// has sent completely. answers are its answers about groups, in order.
	refilling map[string]struct{}
	filled    map[string]bool
	answers   []refilled
	// unconfirmed are the changes with groups to join that the peer has not confirmed.
	unconfirmed []unconfirmed
	// replaced is closed once the link has ended and its successor, if any, has been asked.
	replaced chan struct{}
}

// unconfirmed is a change of interest that the peer has not confirmed.
type unconfirmed struct {
	seq    uint64
	groups []string
	late   bool // clients did not wait for the confirmation: they may miss events until it arrives
}

// takeUnconfirmed removes the changes up to seq, and returns their groups; late ones only, if all is false.
func (p *peerState) takeUnconfirmed(seq uint64, all bool) (groups []string) {
	n := 0
	for ; n < len(p.unconfirmed) && p.unconfirmed[n].seq <= seq; n++ {
		if all || p.unconfirmed[n].late {
			groups = append(groups, p.unconfirmed[n].groups...)
		}
	}
	p.unconfirmed = slices.Delete(p.unconfirmed, 0, n)
	return groups
}

// setLate records that clients have waited in vain for the changes up to seq, of which a link or its successor is to
// bring the confirmation.
func (b *Backplane) setLate(l *link, seq uint64) {
	i := &b.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	if !l.phase().isSource() {
		if l = i.sourceOf(l.peer.layer); l == nil {
			return // a gap is open
		}
		seq = l.peer.askedSeq
	}
	if l.peer.confirmedSeq.Load() >= seq {
		return
	}
	l.move(signalOverdue)
	for n := range l.peer.unconfirmed {
		if u := &l.peer.unconfirmed[n]; u.seq <= seq {
			u.late = true
		}
	}
}

// sourceOf returns the link whose peer sends the events of a layer, nil if there is none. i.mu is held.
func (i *interest) sourceOf(layer string) *link {
	for l := range i.relays {
		if l.peer.layer == layer && l.phase().isSource() {
			return l
		}
	}
	return nil
}

func (i *interest) init() {
	i.groups = map[string]struct{}{}
	i.relays = map[*link]struct{}{}
	i.tasks = map[*link]struct{}{}
	i.gaps = map[string]*gap{}
	i.seen = map[string]bool{}
	i.recents = map[string]*recent{}
}

// list returns all subscribed groups. i.mu is held.
func (i *interest) list() []string {
	groups := make([]string, 0, len(i.groups))
	for g := range i.groups {
		groups = append(groups, g)
	}
	return groups
}

// Interest implements [relay.Backplane].
// See docs/decisions/backplane.md#why-does-a-subscription-wait-for-peers
func (b *Backplane) Interest(joined, left []string) (wait func(context.Context)) {
	i := &b.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, g := range joined {
		i.groups[g] = struct{}{}
	}
	for _, g := range left {
		delete(i.groups, g)
	}
	if len(left) > 0 {
		for _, r := range i.recents {
			r.forget(left)
		}
	}
	asked := map[string]bool{}
	type answer struct {
		link *link
		seq  uint64
	}
	var answers []answer
	for l := range i.relays {
		now := l.phase()
		if !now.isSource() {
			continue
		}
		asked[l.peer.layer] = true
		seq := l.sendInterest(false, joined, left)
		if len(joined) == 0 {
			continue
		}
		l.peer.unconfirmed = append(l.peer.unconfirmed, unconfirmed{seq, joined, now == phaseLate})
		if now != phaseLate {
			answers = append(answers, answer{l, seq})
		}
	}
	i.changeGaps(asked, joined, left)
	for l := range i.tasks {
		l.sendSubscription(joined, left)
	}
	if len(answers) == 0 {
		return nil
	}
	return func(ctx context.Context) {
		timeout := time.NewTimer(b.settings.Load().JoinWait)
		defer timeout.Stop()
		for n, a := range answers {
			if a.link.awaitConfirmation(ctx, a.seq, timeout.C) {
				continue
			}
			for _, late := range answers[n:] { // the limit is shared: all unanswered peers are overdue
				b.setLate(late.link, late.seq)
			}
			return
		}
	}
}

// awaitConfirmation waits until the peer has confirmed the interest up to seq. If the link ends, it waits for the
// confirmation of the link that replaces it as the source of the layer.
func (l *link) awaitConfirmation(ctx context.Context, seq uint64, timeout <-chan time.Time) bool {
	for {
		l.b.interest.mu.Lock()
		confirmed, now := l.peer.confirmed, l.phase()
		l.b.interest.mu.Unlock()
		if l.peer.confirmedSeq.Load() >= seq {
			return true
		}
		if now == phaseStandby || now == phaseRetired { // another link has become the source
			next, all := l.b.replacementSource(l)
			return next == nil || next.awaitConfirmation(ctx, all, timeout)
		}
		select {
		case <-confirmed:
		case <-l.ctx.Done():
			select {
			case <-l.peer.replaced:
			case <-ctx.Done():
				return false
			case <-timeout:
				return false
			}
			next, all := l.b.replacementSource(l)
			return next == nil || next.awaitConfirmation(ctx, all, timeout)
		case <-ctx.Done():
			return false
		case <-timeout:
			return false
		}
	}
}

// replacementSource returns the current source of the layer of an ended link, nil if there is none, and the
// sequence number of the last change sent to it.
func (b *Backplane) replacementSource(ended *link) (next *link, asked uint64) {
	i := &b.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	for l := range i.relays {
		if now := l.phase(); l.peer.layer == ended.peer.layer && now.isSource() && now != phaseLate {
			return l, l.peer.askedSeq
		}
	}
	return nil, 0
}

// wakeWaiting makes those that await a confirmation look for the present source. interest.mu is held.
func (p *peerState) wakeWaiting() {
	close(p.confirmed)
	p.confirmed = make(chan struct{})
}

// confirmInterest records the peer's confirmation of all changes up to seq.
func (l *link) confirmInterest(seq uint64) {
	i := &l.b.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	if seq > l.peer.askedSeq {
		return
	}
	l.peer.confirmedSeq.Store(seq)
	if late := l.peer.takeUnconfirmed(seq, false); l.phase().isSource() {
		l.b.reportGap(i.wanted(late))
	}
	if l.phase().isSource() && seq >= l.peer.gapSeq {
		l.closeGaps()
		l.move(signalConfirmed)
	}
	if seq == l.peer.askedSeq {
		l.move(signalConfirmedAll)
	}
	l.peer.wakeWaiting()
}
