package hub

import (
	"sync"
	"sync/atomic"

	"github.com/edgerelay/edgerelay/relay"
)

// shard owns a part of the sessions. Its worker is the only one that writes events to them, so
// that every client sees the events of all its groups in one order, and no two workers meet at a socket.
type shard struct {
	hub   *Hub
	queue queue

	// round is held by the worker while it writes what it has taken from the queue, and by who changes subscriptions.
	round sync.Mutex
	gather

	mu        sync.RWMutex // guards the map; after round, where both are held
	audiences map[string]*audience

	sessionsMu sync.Mutex
	sessions   []*Session
}

// audience is the sessions of one shard that are subscribed to one group. It is guarded by the shard's round.
type audience struct {
	subs    []subscriber
	classed map[uint64]int // subscribers by class, of those that are not of class 0; nil if all are
	others  int            // how many these are
	present atomic.Uint64  // the classes there are; read without the round

	events atomic.Uint32 // delivered to it, of which seen were there at the last look, and rate a second came up to then; see groups.go
	seen   atomic.Uint32
	rate   atomic.Uint32 // bits of a float32
}

// subscriber is a subscription as the worker goes through them: with the socket at hand, for the memory between is cold each time.
type subscriber struct {
	socket relay.Socket
	*subscription
}

// subscription ties a session to an audience.
type subscription struct {
	session  *Session
	audience *audience
	group    string
	at       int    // index in audience.subs
	class    uint64 // one bit of a set of classes
}

func newShard(h *Hub) *shard {
	s := &shard{hub: h, audiences: map[string]*audience{}}
	s.queue.init()
	return s
}

// run is the shard's worker.
func (s *shard) run() {
	var jobs []job
	for {
		if jobs = s.queue.take(jobs); jobs == nil {
			return
		}
		for rest := jobs; len(rest) > 0; {
			rest = rest[s.turn(rest):]
		}
		clear(jobs)
	}
}

// turnSteps bounds what is gathered in one round: so many steps take two megabytes, and some tens of milliseconds, for which subscriptions wait.
const turnSteps = 1 << 18

// turn writes the first of jobs in one round, and returns how many these were.
func (s *shard) turn(jobs []job) (n int) {
	s.round.Lock()
	defer s.round.Unlock()
	for steps := 0; n < len(jobs); n++ {
		if steps += len(jobs[n].audience.subs); n > 0 && steps > turnSteps {
			break
		}
	}
	s.write(s.hub, jobs[:n])
	s.hub.lag.record(jobs[:n])
	return n
}

// audience returns the audience of a group, nil if no session of this shard is subscribed to it.
func (s *shard) audience(group string) *audience {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.audiences[group]
}

// subscribe adds session to the audience of a group.
func (s *shard) subscribe(session *Session, group string, class uint8) *subscription {
	s.round.Lock()
	defer s.round.Unlock()
	a := s.audience(group)
	if a == nil {
		a = &audience{}
		s.mu.Lock()
		s.audiences[group] = a
		s.mu.Unlock()
	}
	sub := &subscription{session: session, audience: a, group: group, at: len(a.subs), class: 1 << class}
	a.subs = append(a.subs, subscriber{session.socket, sub})
	a.enter(sub.class)
	return sub
}

// unsubscribe takes sub out of its audience. When it returns, nothing of the group is written to the session any more.
func (s *shard) unsubscribe(sub *subscription) {
	s.round.Lock()
	defer s.round.Unlock()
	a := sub.audience
	last := len(a.subs) - 1
	a.subs[sub.at] = a.subs[last]
	a.subs[sub.at].at = sub.at
	a.subs[last] = subscriber{}
	a.subs = a.subs[:last]
	a.leave(sub.class)
	if last == 0 {
		s.mu.Lock()
		delete(s.audiences, sub.group)
		s.mu.Unlock()
	}
}

func (s *shard) add(session *Session) {
	s.sessionsMu.Lock()
	defer s.sessionsMu.Unlock()
	session.at = int32(len(s.sessions))
	s.sessions = append(s.sessions, session)
}

func (s *shard) remove(session *Session) {
	s.sessionsMu.Lock()
	defer s.sessionsMu.Unlock()
	last := len(s.sessions) - 1
	s.sessions[session.at] = s.sessions[last]
	s.sessions[session.at].at = session.at
	s.sessions[last] = nil
	s.sessions = s.sessions[:last]
}

// all returns the sessions there are now.
func (s *shard) all() []*Session { return s.part(0, 1) }

// part returns the i-th of n equal parts of the sessions there are now.
func (s *shard) part(i, n int) []*Session {
	s.sessionsMu.Lock()
	defer s.sessionsMu.Unlock()
	from, to := len(s.sessions)*i/n, len(s.sessions)*(i+1)/n
	return append([]*Session(nil), s.sessions[from:to]...)
}
