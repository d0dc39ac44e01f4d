package backplane

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// interest is the set of groups subscribed on this node, and the peers that receive the announcements. The hub calls
// Interest under a lock of its own, so no code may call the hub while mu is held.
// See docs/decisions/backplane.md#why-is-listening-for-a-peer-not-interest
type interest struct {
	mu     sync.Mutex
	groups map[string]struct{}
	relays map[*link]struct{} // established links to relays; sources receive the interest
	tasks  map[*link]struct{} // Python task nodes; all receive the interest
	gaps   map[string]*gap    // by layer or Python node: layers that have no source at the moment
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
	// replaced is closed once the link has ended and its successor, if any, has been asked.
	replaced chan struct{}
}

func (i *interest) init() {
	i.groups = map[string]struct{}{}
	i.relays = map[*link]struct{}{}
	i.tasks = map[*link]struct{}{}
	i.gaps = map[string]*gap{}
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
		seq := l.sendInterest(false, joined, left)
		if len(joined) > 0 && now != phaseLate {
			answers = append(answers, answer{l, seq})
		}
	}
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
				if late.link.peer.confirmedSeq.Load() < late.seq {
					late.link.move(signalOverdue)
				}
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
		confirmed := l.peer.confirmed
		l.b.interest.mu.Unlock()
		if l.peer.confirmedSeq.Load() >= seq {
			return true
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

// confirmInterest records the peer's confirmation of all changes up to seq.
func (l *link) confirmInterest(seq uint64) {
	i := &l.b.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	if seq > l.peer.askedSeq {
		return
	}
	l.peer.confirmedSeq.Store(seq)
	if l.phase().isSource() && seq >= l.peer.gapSeq {
		l.b.closeGap(l.peer.layer)
		l.move(signalConfirmed)
	}
	if seq == l.peer.askedSeq {
		l.move(signalConfirmedAll)
	}
	close(l.peer.confirmed)
	l.peer.confirmed = make(chan struct{})
}
