package presence

import (
	"context"
	"slices"
	"time"
)

// member is a user in a group with connections of this node, or whose last one has ended lately. The shard's lock
// guards its fields.
type member struct {
	Key
	info   string
	policy *Policy
	conns  []Connection
	// placed: the store has the member for this node. outdated: the store has other information. queued: it waits to be
	// compared with the store. restoring: it was in the store before the store was emptied.
	placed, outdated, queued, restoring bool
	// entered is when the store was told of the first connection.
	entered time.Time
	// released is when the store was told of the end of the last connection.
	released time.Time
}

func (s *shard) enter(key Key, c Connection, info string, p *Policy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[key]
	if m == nil {
		m = &member{Key: key}
		s.members[key] = m
		s.groups[key.Group]++
	}
	if slices.Contains(m.conns, c) {
		if m.info == info && *m.policy == *p {
			return
		}
		m.info, m.policy, m.outdated = info, p, true
		s.queue(m)
		return
	}
	if m.info != info || m.policy == nil || *m.policy != *p {
		m.outdated = true
	}
	m.conns, m.info, m.policy = append(m.conns, c), info, p
	if len(m.conns) == 1 || m.outdated {
		s.queue(m)
	}
}

func (s *shard) leave(key Key, c Connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[key]
	if m == nil {
		return
	}
	i := slices.Index(m.conns, c)
	if i < 0 {
		return
	}
	if m.conns = slices.Delete(m.conns, i, i+1); len(m.conns) == 0 {
		m.conns = nil
		s.queue(m)
	}
}

// leaveAll ends the presence of all connections.
func (s *shard) leaveAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.members {
		if len(m.conns) > 0 {
			m.conns = nil
			s.queue(m)
		}
	}
}

// queue has a member compared with the store. s.mu is held.
func (s *shard) queue(m *member) {
	if m.queued {
		return
	}
	m.queued = true
	s.queued = append(s.queued, m)
	s.entered++
	s.kick()
}

// forget removes a member. s.mu is held.
func (s *shard) forget(m *member) {
	if s.members[m.Key] != m {
		return
	}
	delete(s.members, m.Key)
	delete(s.leaving, m)
	if s.groups[m.Group]--; s.groups[m.Group] == 0 {
		delete(s.groups, m.Group)
	}
}

// settled waits until all changes from before the call are in the store.
func (s *shard) settled(ctx context.Context) error {
	s.mu.Lock()
	upTo := s.entered
	for s.written < upTo {
		progress := s.progress
		s.mu.Unlock()
		select {
		case <-progress:
		case <-ctx.Done():
			return errUnavailable
		case <-s.tracker.ctx.Done():
			return errUnavailable
		}
		s.mu.Lock()
	}
	s.mu.Unlock()
	return nil
}

// batchSize is the greatest number of changes in a call, and of members in an answer.
const batchSize = 128

// batch is some changes for the store, and the members they are about.
type batch struct {
	changes []Change
	members []*member // of the first changes
	taken   int       // members taken from the queue
}

// take takes changes from the queues. s.mu is not held.
func (s *shard) take() (b batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for len(s.queued) > 0 && len(b.changes) < batchSize-1 {
		m := s.queued[0]
		s.queued[0], s.queued = nil, s.queued[1:]
		m.queued = false
		b.taken++
		switch {
		case len(m.conns) > 0 && m.restoring && now.Sub(m.entered) > s.tracker.memory:
			b.add(m, OpRestore)
		case len(m.conns) > 0 && (!m.placed || m.outdated): // Also a restored one whose join may have been lost.
			b.add(m, OpEnter)
		case len(m.conns) > 0:
		case m.restoring:
			b.add(m, OpRestoreReleased)
			b.changes[len(b.changes)-1].Policy = m.releasedPolicy(now)
			b.add(m, OpRelease)
		case m.placed:
			b.add(m, OpRelease)
		case !s.leaving[m]: // The store has never heard of it.
			s.forget(m)
		}
		m.restoring, m.outdated = false, false
	}
	if len(s.queued) > 0 { // Members first: an acknowledgement compares an announcement with them.
		return b
	}
	n := min(len(s.answers), max(0, batchSize-len(b.changes)))
	b.changes = append(b.changes, s.answers[:n]...)
	s.answers = slices.Delete(s.answers, 0, n)
	return b
}

func (b *batch) add(m *member, op Op) {
	b.changes = append(b.changes, Change{Op: op, Key: m.Key, Info: m.info, Policy: m.policy})
	b.members = append(b.members, m)
}

// commit notes that a batch was written.
func (s *shard) commit(b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for i, m := range b.members {
		if m.placed = b.changes[i].Op != OpRelease; m.placed {
			if b.changes[i].Op != OpRestoreReleased {
				delete(s.leaving, m)
				m.released = time.Time{}
			}
			if b.changes[i].Op == OpEnter {
				m.entered = now
			}
			continue
		}
		if !s.leaving[m] {
			m.released = now
		}
		s.leaving[m] = true
	}
	s.advance(b.taken)
}

// advance notes that queued members were written, and wakes the callers of settled. s.mu is held.
func (s *shard) advance(n int) {
	s.written += uint64(n)
	close(s.progress)
	s.progress = make(chan struct{})
}

// undo puts a batch back to the front of the queues, because it may not have been written. The comparison with the
// store comes first.
func (s *shard) undo(b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var again []*member
	for i, m := range b.members {
		m.restoring = m.restoring || b.changes[i].Op == OpRestore || b.changes[i].Op == OpRestoreReleased
		if i > 0 && b.members[i-1] == m { // restored and released
			continue
		}
		m.queued, m.outdated = true, m.outdated || len(m.conns) > 0
		again = append(again, m)
	}
	s.queued = append(again, s.queued...)
	s.answers = append(b.changes[len(b.members):len(b.changes):len(b.changes)], s.answers...)
	s.advance(b.taken - len(again))
}

// isRemembered reports whether a released member is restored if the store is emptied, so that its leaving is announced.
// If it was announced already, it is announced twice.
func (s *shard) isRemembered(m *member, now time.Time) bool {
	return s.leaving[m] && now.Before(m.released.Add(m.policy.Grace+s.tracker.memory))
}

// releasedPolicy returns the policy for a member without a connection that is restored: a grace period that has ended
// does not begin again.
func (m *member) releasedPolicy(now time.Time) *Policy {
	p := *m.policy
	if !m.released.IsZero() {
		p.Grace = max(0, m.released.Add(p.Grace).Sub(now))
	}
	return &p
}

// forgetGone forgets members that have left.
func (s *shard) forgetGone() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for m := range s.leaving {
		if len(m.conns) == 0 && !m.queued && !s.isRemembered(m, now) {
			s.forget(m)
		}
	}
}

// compare sets which members the store has, and queues those that differ. emptied: the store has lost its contents.
func (s *shard) compare(held map[Key]bool, emptied bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range held {
		if s.members[key] == nil { // of an earlier state of the store
			m := &member{Key: key, policy: &Policy{}}
			s.members[key] = m
			s.groups[key.Group]++
		}
	}
	now := time.Now()
	for key, m := range s.members {
		was := m.placed || s.isRemembered(m, now)
		m.placed = held[key]
		m.restoring = m.restoring && !m.placed
		if emptied && was && !m.placed {
			m.restoring = true
			s.tracker.stats.restored.Add(1)
		}
		if m.restoring || m.placed != (len(m.conns) > 0) {
			s.queue(m)
		}
	}
}
