package hub

import (
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// positionAudience is the audience of a group's clients that get positions, on a shard. The shard's round guards all
// but the atomics.
type positionAudience struct {
	audience
	course *course
	framer framer
	// pending are the subscriptions that have not begun; they are not in subs.
	pending map[*subscription]*pending
	// resuming is the set of the classes of pending subscriptions that need the log; read without the round.
	resuming atomic.Uint64
	log      eventLog
	settled  []*settlement
	sweep    *time.Timer    // removes settled of a quiet group; nil: none
	written  relay.Position // of the last written event that has one
}

// phase is the state of a subscription that has not begun.
//
//	held → waiting → reading → (paced →) begun
//
// A subscription without a replay goes from held to begun. One whose class changes goes back from reading to waiting.
// Each phase may go to ended.
type phase uint8

const (
	// held: the client does not know yet that it is subscribed.
	held phase = iota
	// waiting: for a shared read of the history.
	waiting
	// reading: the history is read, and the events that are written meanwhile are recorded.
	reading
	// paced: the replay is sent as fast as the client reads.
	paced
	// begun: the client gets events like all others.
	begun
	// ended: the client has left, or lost the right.
	ended
)

// pending is the state of a subscription until the live stream begins. It is freed then. The shard's round guards it.
type pending struct {
	sub    *subscription
	shard  *shard
	resume *relay.Resume // nil: no earlier events
	phase  phase
	tries  uint8
	late   bool // the channel layer has not taken the membership in time
	flood  bool // too many events were recorded
	class  relay.Classification
	from   uint64 // number of the next event in the log for the client
	// since is the last event of the group before the subscription, zero if it is unknown. A client that asks for the
	// last events gets all later ones.
	since relay.Position

	answer *answer
	part   int // of the answer, that is sent next
	wave   *wave
	// Of a paced client: the bytes that waited lately, and when fewer did than before.
	unread int
	readAt time.Time
}

// asks reports whether the client resumes from a position.
func (p *pending) asks() bool { return p.resume != nil && len(p.resume.After) > 0 }

// base is the position from which the client resumes.
func (p *pending) base() relay.Position { return p.resume.After[len(p.resume.After)-1].Entry() }

// latest is the number of last events that the client asks for.
func (p *pending) latest() int {
	if p.resume == nil || p.asks() {
		return 0
	}
	return max(p.resume.Latest, 0)
}

// positionAudience returns the audience of a group's clients of a format that get positions, nil if there are none.
func (s *shard) positionAudience(group string, format relay.Format) *positionAudience {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if format == nil {
		return s.positioned[group]
	}
	if a := findFormat(s.formatted[group], format); a != nil {
		return a.positioned
	}
	return nil
}

// audienceOf returns the positionAudience of a subscription, nil if it has ended.
func (s *shard) audienceOf(sub *subscription) *positionAudience {
	return s.positionAudience(sub.group, sub.session.format)
}

// hold makes a subscription that begins with begin.
func (s *shard) hold(session *Session, group string, r *relay.Subscription) *subscription {
	s.round.Lock()
	defer s.round.Unlock()
	a := s.positionAudience(group, session.format)
	if a == nil {
		a = &positionAudience{course: s.hub.resumes.course(group), framer: s.hub.framerOf(session.format)}
		s.mu.Lock()
		if session.format != nil {
			s.formatAudience(group, session.format).positioned = a
		} else {
			if s.positioned == nil {
				s.positioned = map[string]*positionAudience{}
			}
			s.positioned[group] = a
		}
		s.mu.Unlock()
	}
	sub := &subscription{
		session: session, audience: &a.audience, group: group, generation: r.Generation, at: pendingAt, class: r.Class,
		granted: r.Granted,
	}
	if a.pending == nil {
		a.pending = map[*subscription]*pending{}
	}
	p := &pending{sub: sub, shard: s, resume: r.Resume}
	if a.pending[sub] = p; p.latest() > 0 {
		p.since = a.course.newest()
	}
	return sub
}

// markLate records that the layer has not taken the memberships of groups in time.
func (s *shard) markLate(session *Session, groups []string) {
	late := make(map[string]bool, len(groups))
	for _, g := range groups {
		late[g] = true
	}
	s.round.Lock()
	defer s.round.Unlock()
	for _, sub := range session.subs {
		if p := s.pendingOf(sub); p != nil && late[sub.group] {
			p.late = true
		}
	}
}

// pendingOf returns the state of a subscription that has not begun, else nil. The round is held.
func (s *shard) pendingOf(sub *subscription) *pending {
	if sub.at != pendingAt {
		return nil
	}
	if a := s.audienceOf(sub); a != nil {
		return a.pending[sub]
	}
	return nil
}

// unsubscribePositioned removes a subscription of a client that gets positions. The round is held.
func (s *shard) unsubscribePositioned(sub *subscription) {
	a := s.audienceOf(sub)
	if a == nil {
		return
	}
	if p := a.pending[sub]; p != nil {
		s.finish(a, p, ended)
	} else if sub.at != pendingAt {
		a.remove(sub)
	}
	if len(a.subs) > 0 || len(a.pending) > 0 {
		return
	}
	if a.sweep != nil {
		a.sweep.Stop()
	}
	if sub.session.format != nil {
		s.removeFormatted(sub.group, sub.session.format)
	} else {
		s.mu.Lock()
		delete(s.positioned, sub.group)
		s.mu.Unlock()
	}
	s.hub.resumes.release(a.course)
}

// finish ends the state of a subscription that begins, or ends. The round is held.
func (s *shard) finish(a *positionAudience, p *pending, next phase) {
	if next == begun {
		p.sub.at = int32(len(a.subs))
		a.subs = append(a.subs, subscriber{p.sub.session.socket, p.sub})
		a.enter(p.sub.classification())
		s.markDeflating(&a.audience, p.sub.session)
	}
	a.leaveLog(p)
	if p.phase != held {
		s.hub.resumes.stats.waiting.Add(-1)
	}
	if p.phase == paced {
		s.hub.resumes.endPace(p.answer)
		p.answer = nil
	}
	p.phase = next
	if delete(a.pending, p.sub); len(a.pending) == 0 {
		a.pending = nil
	}
}

// eachPending calls fn with the subscriptions that have not begun.
func (s *shard) eachPending(fn func(*subscription)) {
	s.round.Lock()
	defer s.round.Unlock()
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, a := range s.positioned {
		for sub := range a.pending {
			fn(sub)
		}
	}
	for _, list := range s.formatted {
		for _, a := range list {
			if a.positioned == nil {
				continue
			}
			for sub := range a.positioned.pending {
				fn(sub)
			}
		}
	}
}

// begin sends a client the text of a change, and begins the subscriptions that are held: at once, if no history has to
// be read. The session's mu is held.
func (s *shard) begin(session *Session, text []byte) bool {
	h := s.hub
	buf := appendText(make([]byte, 0, relay.FrameSize(len(text))), text)
	var reads []*pending
	s.round.Lock()
	for _, sub := range session.subs {
		p := s.pendingOf(sub)
		if p == nil || p.phase != held {
			continue
		}
		resumed, known := h.resumes.beginning(p)
		if !known {
			p.phase = waiting
			h.resumes.stats.waiting.Add(1)
			reads = append(reads, p)
			continue
		}
		a := s.audienceOf(sub)
		buf = appendText(buf, a.framer.EncodeResumed(resumed))
		h.resumes.count(p, &resumed, 0)
		s.finish(a, p, begun)
	}
	// Before an event of the groups.
	ok := len(buf) == 0 || relay.SendAnswer(session.socket, buf, h.Limits().QueuePerConnection)
	s.round.Unlock()
	h.resumes.enqueue(reads)
	return ok
}
