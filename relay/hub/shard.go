package hub

import (
	"sync"

	"github.com/edgerelay/edgerelay/relay"
)

// shard owns a part of the sessions. Only the shard's worker writes events to these sessions, so that each client sees
// the events of all groups in a single order, and two workers never meet at a socket.
type shard struct {
	hub    *Hub
	number int // index in the hub's shards
	queue  queue

	// round guards the subscriptions. The worker holds round while writing a round's jobs.
	round sync.Mutex
	gather

	mu         sync.RWMutex // guards the maps; locked after round where both are needed
	audiences  map[string]*audience
	positioned map[string]*positionAudience // of clients that get positions; nil before the first
	formatted  map[string][]*formatAudience // of clients with a format; nil before the first

	sessionsMu sync.Mutex // guards sessions
	sessions   []*Session
}

func newShard(h *Hub) *shard {
	s := &shard{hub: h, audiences: map[string]*audience{}}
	s.queue.init()
	return s
}

// work is the shard's worker, until the queue is closed.
func (s *shard) work() {
	var jobs []job
	for {
		if jobs = s.queue.take(jobs); jobs == nil {
			return
		}
		for rest := jobs; len(rest) > 0; {
			rest = rest[s.writeRound(rest):]
		}
		clear(jobs)
	}
}

// maxRoundSteps bounds the deliveries of a round, during which subscriptions cannot change: this many take 2 MB and
// some tens of milliseconds.
const maxRoundSteps = 1 << 18

// writeRound writes the first of jobs in a single round, and returns the number of written jobs.
func (s *shard) writeRound(jobs []job) (n int) {
	s.round.Lock()
	defer s.round.Unlock()
	for steps := 0; n < len(jobs); n++ {
		if steps += len(jobs[n].audience.subs); n > 0 && steps > maxRoundSteps {
			break
		}
	}
	written := s.withoutKnown(jobs[:n])
	s.write(s.hub, written)
	s.hub.lag.record(written)
	record(jobs[:n])
	return n
}

// audience returns the audience of a group, nil if no session of this shard without positions is subscribed.
func (s *shard) audience(group string) *audience {
	a, _ := s.audienceAndForms(group)
	return a
}

// audienceAndForms is audience, and reports whether a subscriber has agreed on compression.
func (s *shard) audienceAndForms(group string) (a *audience, deflates bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if a = s.audiences[group]; a == nil {
		return nil, false
	}
	return a, a.deflates
}

// enter begins a subscription of a session. For a client with positions, it begins with begin.
func (s *shard) enter(session *Session, group string, sub *relay.Subscription) *subscription {
	if session.positioned {
		return s.hold(session, group, sub)
	}
	return s.subscribe(session, group, sub)
}

// subscribe adds a session to the audience of a group.
func (s *shard) subscribe(session *Session, group string, r *relay.Subscription) *subscription {
	c := classificationOf(r)
	s.round.Lock()
	defer s.round.Unlock()
	a := s.plainAudience(group, session.format)
	sub := &subscription{
		session: session, audience: a, group: group, generation: c.Generation, at: int32(len(a.subs)), class: c.Class,
		granted: r.Granted,
	}
	a.subs = append(a.subs, subscriber{session.socket, sub})
	a.enter(c)
	s.markDeflating(a, session)
	return sub
}

// remove removes a subscription from an audience. The shard's round is held.
func (a *audience) remove(sub *subscription) {
	last := len(a.subs) - 1
	a.subs[sub.at] = a.subs[last]
	a.subs[sub.at].at = sub.at
	a.subs[last] = subscriber{}
	a.subs = a.subs[:last]
	a.leave(sub.classification())
}

// unsubscribe removes a subscription. After the return, no event of the group is written to the session.
func (s *shard) unsubscribe(sub *subscription) {
	s.round.Lock()
	defer s.round.Unlock()
	if sub.session.positioned {
		s.unsubscribePositioned(sub)
		return
	}
	a := sub.audience
	a.remove(sub)
	switch {
	case len(a.subs) > 0:
	case sub.session.format != nil:
		s.removeFormatted(sub.group, sub.session.format)
	default:
		s.mu.Lock()
		delete(s.audiences, sub.group)
		s.mu.Unlock()
	}
}

// reclassify puts a subscription into another class. The session's mu is held.
func (s *shard) reclassify(sub *subscription, c relay.Classification) {
	before := sub.classification()
	if before == c {
		return
	}
	s.round.Lock()
	defer s.round.Unlock()
	sub.class, sub.generation = c.Class, c.Generation
	if sub.at != pendingAt {
		sub.audience.change(before, c)
	}
}

// add adds a session.
func (s *shard) add(session *Session) {
	s.sessionsMu.Lock()
	defer s.sessionsMu.Unlock()
	session.at = int32(len(s.sessions))
	s.sessions = append(s.sessions, session)
}

// remove removes a session.
func (s *shard) remove(session *Session) {
	s.sessionsMu.Lock()
	defer s.sessionsMu.Unlock()
	last := len(s.sessions) - 1
	s.sessions[session.at] = s.sessions[last]
	s.sessions[session.at].at = session.at
	s.sessions[last] = nil
	s.sessions = s.sessions[:last]
}

// all returns the current sessions.
func (s *shard) all() []*Session { return s.part(0, 1) }

// part returns the i-th of n equal parts of the current sessions.
func (s *shard) part(i, n int) []*Session { return s.appendPart(nil, i, n) }

// appendPart appends the i-th of n equal parts of the current sessions.
func (s *shard) appendPart(to []*Session, i, n int) []*Session {
	s.sessionsMu.Lock()
	defer s.sessionsMu.Unlock()
	return append(to, s.sessions[len(s.sessions)*i/n:len(s.sessions)*(i+1)/n]...)
}
