package backplane

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// This file has the fetching of events that were dropped from the queue of a stream. While the peer is away, such an
// event is not lost yet: the history of this node may have it when the stream goes on.
// See docs/decisions/backplane.md#how-does-a-node-get-what-its-queue-has-dropped

const (
	// featureRefetch is the ability to get events of a stream that goes on from the history.
	featureRefetch = "refetch"
	// refetchWait bounds the time for which the events of a group are held until those before fit into the queue.
	refetchWait = time.Minute
	// maxHoles bounds the groups with lost events that no later event has followed.
	maxHoles = maxPeerGroups
)

// lossCounts counts events by the reason for which they were dropped.
type lossCounts struct{ expired, full, link int }

func (c *lossCounts) merge(other lossCounts) {
	c.expired += other.expired
	c.full += other.full
	c.link += other.link
}

func (c *lossCounts) sum() int { return c.expired + c.full + c.link }

// add counts events that were dropped for a reason.
func (c *lossCounts) add(why fault, events int) {
	switch why {
	case faultExpired:
		c.expired += events
	case faultQueue:
		c.full += events
	default:
		c.link += events
	}
}

// missed is the dropped events of a group that the history may have.
type missed struct {
	lossCounts
	from relay.Position // the earliest of their positions
}

// merge adds later events.
func (m *missed) merge(later *missed) {
	if m.sum() == 0 || later.from.Compare(m.from) < 0 {
		m.from = later.from
	}
	m.lossCounts.merge(later.lossCounts)
}

// count returns the number of events.
func (m *missed) count() int {
	if m == nil {
		return 0
	}
	return m.sum()
}

// losses are the events of a stream that the peer may not get.
type losses struct {
	refetches bool               // the peer takes dropped events later
	missed    map[string]*missed // by group
	counted   lossCounts         // events that are lost for good since takeCounted
	uncounted atomic.Bool        // there are any
	begins    bool               // these begin a series of drops
	// holes has the groups with lost events, and the number of the last event before later ones of the group. Until the
	// peer has a later event, a read of the history would bring the lost ones.
	holes    map[string]uint64
	allHoles bool // there were too many groups
}

// missOrLose records a dropped event: one with a position is lost only if the history does not have it. q.mu is held.
func (q *queue) missOrLose(group string, at relay.Position, why fault) {
	one := &missed{from: at}
	one.lossCounts.add(why, 1)
	m := q.missed[group]
	switch {
	case at.IsZero() || m == nil && len(q.missed) >= groupsPerMessage:
		q.lose(group, one)
	case m == nil:
		if q.missed == nil {
			q.missed = map[string]*missed{}
		}
		q.missed[group] = one
	default:
		m.merge(one)
	}
}

// lose gives dropped events of a group up: the peer is told. q.mu is held.
func (q *queue) lose(group string, m *missed) {
	n := m.sum()
	if n == 0 {
		return
	}
	q.lost.add(group)
	q.begins = q.addDropped(n) || q.begins
	q.counted.merge(m.lossCounts)
	q.uncounted.Store(true)
	q.noteHole(group)
	q.wake()
}

// noteHole records that the peer does not get earlier events of a group than those that follow. q.mu is held.
func (q *queue) noteHole(group string) {
	if q.holes == nil {
		q.holes = map[string]uint64{}
	}
	if q.holes[group] = q.base + uint64(q.count) - 1; len(q.holes) > maxHoles {
		q.holes, q.allHoles = nil, true
	}
}

// tellHoles tells the peer which groups have holes. The answers of a former link may not have arrived. q.mu is held.
func (q *queue) tellHoles() {
	for groups := range slices.Chunk(slices.Collect(maps.Keys(q.holes)), refillGroups) {
		q.answer(message{Type: "refilled", Groups: groups, Missing: groups, Until: q.base - 1})
	}
}

// loseMissed gives all dropped events up: the link works, so the peer is too slow for them. q.mu is held.
func (q *queue) loseMissed() {
	for group, m := range q.missed {
		q.lose(group, m)
	}
	q.missed = nil
}

// takeCounted returns the events that were lost for good since the last call.
func (q *queue) takeCounted() (c lossCounts, first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c, first = q.counted, q.begins
	q.counted, q.begins = lossCounts{}, false
	q.uncounted.Store(false)
	return c, first
}

// beginRefetch holds the groups with dropped events, and returns a refill for each. The queued events of these groups
// wait behind it. q.mu is held.
func (q *queue) beginRefetch() (list []*refill) {
	for group, m := range q.missed {
		if _, hole := q.holes[group]; hole || q.allHoles || q.refills[group] != nil {
			q.lose(group, m)
			continue
		}
		r := &refill{group: group, after: m.from, hole: m, awaited: m.sum()}
		q.setRefill(r)
		list = append(list, r)
	}
	q.missed = nil
	if len(list) == 0 {
		return nil
	}
	kept := 0
	for n := range q.count {
		at := (q.first + n) % len(q.events)
		e := q.events[at]
		q.events[at] = nil
		if r := q.refills[e.group]; r != nil && r.hole != nil {
			r.held = append(r.held, e)
			q.bytes -= e.cost()
			if !e.position.IsZero() && e.position.Compare(r.after) >= 0 {
				r.awaited++
			}
			continue
		}
		q.events[(q.first+kept)%len(q.events)] = e
		kept++
	}
	q.count = kept
	return list
}

// suspendRefetch ends the refills of dropped events, for the next link to begin again. q.mu is held.
func (q *queue) suspendRefetch() {
	for group, r := range q.refills {
		if r.hole == nil {
			continue
		}
		q.removeRefill(r)
		if q.missed == nil {
			q.missed = map[string]*missed{}
		}
		if later := q.missed[group]; later != nil {
			r.hole.merge(later)
		}
		q.missed[group] = r.hole
		for _, e := range r.held {
			q.append(e)
		}
		r.held = nil
	}
}

// renumber makes the events of the queue follow the last one that the peer has. If any were lost for good, a number is
// missing, so that the peer expects a report. q.mu is held, and no event counts as sent.
func (q *queue) renumber(last uint64) {
	next := last + 1
	if q.dropped > 0 {
		next++
	}
	if !q.refetches || q.base == next {
		return
	}
	for group, number := range q.holes {
		q.holes[group] = max(number, q.base-1) + next - q.base
	}
	q.base = next
}

// isComplete reports whether events that were read from the history include all that were dropped or held.
func (r *refill) isComplete(events []*event) bool {
	isFirst := func(e *event) bool { return e.position == r.after }
	return len(events) >= r.awaited && slices.ContainsFunc(events, isFirst)
}

// lacks reports whether a page has fewer events, besides those that are held, than were dropped. q.mu is held.
func (r *refill) lacks(page []*event) bool {
	if r.hole == nil {
		return false
	}
	held := make(map[relay.Position]bool, len(r.held))
	for _, e := range r.held {
		held[e.position] = true
	}
	fetched := 0
	for _, e := range page {
		if !held[e.position] {
			fetched++
		}
	}
	return fetched < r.hole.count()
}

// refetch reads the dropped events of groups from the history, for the link that continues the stream.
func (s *stream) refetch(l *link, list []*refill) {
	if len(list) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(l.ctx, refetchWait)
	started := s.b.spawn(func() {
		defer cancel()
		s.finishRefills(ctx, l, list, func(context.Context) {})
	})
	if !started {
		cancel()
	}
}

// countLosses counts and logs the events that are lost for good.
func (s *stream) countLosses() {
	if !s.queue.uncounted.Load() {
		return
	}
	c, first := s.queue.takeCounted()
	if c.sum() == 0 {
		return
	}
	s.mu.Lock()
	l, peer := s.link, s.peer
	s.mu.Unlock()
	if l != nil {
		l.dropped.Add(uint64(c.sum()))
	}
	if c.expired > 0 {
		s.b.countExpired(peer, s.queue.age.limit, c.expired, first)
	}
	if c.full > 0 {
		s.b.countOverflow(peer, s.queue.limit, c.full, first)
	}
	if c.link > 0 {
		s.b.countLost(peer, c.link)
	}
}
