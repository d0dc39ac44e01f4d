package hub

import (
	"container/heap"
	"context"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// maxLingering bounds the groups without a client whose memberships are kept. Beyond it, the memberships that would
// end first end now.
const maxLingering = 100_000

// lingerStep is the least time between two searches for memberships that end.
const lingerStep = 100 * time.Millisecond

// lingerer is the end of the membership of a group with history that has no client. Until then, events reach the
// history, so that a client that comes back finds what it missed. Peers still know the group.
// See docs/decisions/history.md#why-does-a-membership-outlive-the-last-client
type lingerer struct {
	membership *membership
	end        time.Time
	at         int // index in the heap
}

// lingering is the groups that linger, as a heap: the next to end is the first. The mutex of interest guards it.
type lingering struct {
	heap lingerHeap
	wake chan struct{} // has an element when the heap gets its first element
}

type lingerHeap []*lingerer

// Len implements [heap.Interface].
func (h lingerHeap) Len() int { return len(h) }

// Less implements [heap.Interface].
func (h lingerHeap) Less(i, j int) bool { return h[i].end.Before(h[j].end) }

// Swap implements [heap.Interface].
func (h lingerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push implements [heap.Interface].
func (h *lingerHeap) Push(x any) {
	l := x.(*lingerer)
	l.at = len(*h)
	*h = append(*h, l)
}

// Pop implements [heap.Interface].
func (h *lingerHeap) Pop() any {
	last := len(*h) - 1
	l := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return l
}

// remove ends the lingering of a group that has a client again, and reports whether the group has lingered.
func (l *lingering) remove(m *membership) bool {
	if m.lingers == nil {
		return false
	}
	heap.Remove(&l.heap, m.lingers.at)
	m.lingers = nil
	return true
}

// linger keeps the membership of a group that has lost its last client, if the group has a history. i.mu is held.
func (i *interest) linger(m *membership) bool {
	if i.history == nil {
		return false
	}
	limits, ok := i.history.Limits(m.group)
	if !ok {
		return false
	}
	m.lingers = &lingerer{membership: m, end: time.Now().Add(limits.Age)}
	heap.Push(&i.lingering.heap, m.lingers)
	if len(i.lingering.heap) == 1 {
		select {
		case i.lingering.wake <- struct{}{}:
		default:
		}
	}
	return true
}

// endLingering ends memberships when their time has come, until ctx ends.
func (i *interest) endLingering(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-i.lingering.wake:
		case <-timer.C:
		}
		timer.Reset(i.endDue(time.Now()))
	}
}

// endDue ends the memberships that are due, and returns the time until the next call.
func (i *interest) endDue(now time.Time) time.Duration {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.endFirst(func(l *lingerer) bool { return !l.end.After(now) })
	if len(i.lingering.heap) == 0 {
		return time.Hour
	}
	return max(i.lingering.heap[0].end.Sub(now), lingerStep)
}

// endSurplus ends the memberships beyond maxLingering. i.mu is held.
func (i *interest) endSurplus() {
	if len(i.lingering.heap) > maxLingering {
		i.endFirst(func(*lingerer) bool { return len(i.lingering.heap) > maxLingering })
	}
}

// endFirst ends the first memberships, in the order of their ends, as long as ends returns true. i.mu is held.
func (i *interest) endFirst(ends func(*lingerer) bool) {
	var last, announced []string
	for len(i.lingering.heap) > 0 && ends(i.lingering.heap[0]) {
		m := heap.Pop(&i.lingering.heap).(*lingerer).membership
		m.lingers = nil
		announced = append(announced, m.group)
		if m.count == 0 {
			last = append(last, m.group)
		}
	}
	i.end(last, announced)
}

// setHistory tells the histories about the memberships, and ends those that lingered for groups that have no history
// any more.
func (i *interest) setHistory(history relay.History) {
	i.mu.Lock()
	defer i.mu.Unlock()
	groups := make([]string, 0, len(i.groups))
	for g := range i.groups {
		groups = append(groups, g)
	}
	before := i.history
	i.history = history
	if before != nil && before != history {
		before.Left(groups)
	}
	if history != nil {
		history.Joined(groups)
	}
	var last, announced []string
	for _, l := range append(lingerHeap(nil), i.lingering.heap...) {
		if history != nil {
			if _, ok := history.Limits(l.membership.group); ok {
				continue
			}
		}
		i.lingering.remove(l.membership)
		announced = append(announced, l.membership.group)
		if l.membership.count == 0 {
			last = append(last, l.membership.group)
		}
	}
	i.end(last, announced)
}

// lingeringGroups returns the number of groups that linger.
func (i *interest) lingeringGroups() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.lingering.heap)
}
