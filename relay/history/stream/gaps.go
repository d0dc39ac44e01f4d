package stream

import (
	"context"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// pendingGap is a gap that is not stored yet.
type pendingGap struct{ at relay.Position }

const (
	// holeInterval is the least time between two gaps of a group because of events without a number.
	holeInterval = time.Second
	// gapRetryPause is the pause before gaps that could not be stored are stored again.
	gapRetryPause = time.Second
)

// MarkGap implements [relay.History]. The gap counts for this node at once, and for others once it is stored. A gap of
// all groups is stored for other groups when this node becomes a member of them.
func (s *Store) MarkGap(l relay.Loss) relay.Position {
	at := s.next()
	s.gapped.Add(1)
	s.mu.Lock()
	if l.All {
		s.gapOfAll = at
		for g := range s.members {
			s.addGap(g, at)
		}
	}
	for _, g := range l.Groups {
		s.addGap(g, at)
	}
	s.mu.Unlock()
	s.wake()
	return at
}

// addGap notes a gap that is to be stored. s.mu is held.
func (s *Store) addGap(group string, at relay.Position) {
	if _, ok := s.policy.Limits(group); ok {
		s.pending[group] = &pendingGap{at}
	}
}

// markHoles marks a gap in groups with events that are in no stream, once per interval: the gap of the interval's end
// covers the events since.
func (s *Store) markHoles(groups []string) {
	now := time.Now().UnixMicro()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range groups {
		s.addGap(g, s.next())
		if last, ok := s.holes[g]; !ok || now-last > holeInterval.Microseconds() {
			s.holes[g] = now
			s.gapped.Add(1)
			s.wake()
		}
	}
}

func (s *Store) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// storeGaps stores gaps until ctx ends.
func (s *Store) storeGaps(ctx context.Context) {
	defer close(s.done)
	tick := time.NewTicker(gapRetryPause)
	defer tick.Stop()
	for {
		select {
		case <-s.kick:
			s.askClock(ctx)
		case <-tick.C: // a retry, and further holes
			s.forgetHoles()
			s.askClock(ctx)
		case <-ctx.Done():
			return
		}
		s.flushGaps(ctx)
	}
}

// forgetHoles forgets groups without further holes.
func (s *Store) forgetHoles() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().UnixMicro()
	for g, at := range s.holes {
		if now-at > 2*holeInterval.Microseconds() {
			delete(s.holes, g)
		}
	}
}

// flushGaps stores the gaps that are pending.
func (s *Store) flushGaps(ctx context.Context) {
	s.mu.Lock()
	var queries []query
	for g := range s.pending {
		queries = append(queries, query{group: g})
	}
	s.mu.Unlock()
	if len(queries) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	s.readAll(ctx, queries)
}

// storeTimeout bounds the storing of gaps.
const storeTimeout = 5 * time.Second

// gapOf returns the pending gap of a group, nil if there is none.
func (s *Store) gapOf(group string) *pendingGap {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending[group]
}

// stored forgets a pending gap, unless a later one has replaced it.
func (s *Store) stored(group string, gap *pendingGap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if gap != nil && s.pending[group] == gap {
		delete(s.pending, group)
	}
}
