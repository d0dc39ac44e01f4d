package relay

import "sync"

// shard owns a part of the sessions. Its worker is the only one that writes events to them, so
// that every client sees one order, and no two workers meet at a socket.
type shard struct {
	hub   *Hub
	queue queue

	mu        sync.RWMutex // guards audiences
	audiences map[string]*audience

	sessionsMu sync.Mutex
	sessions   []*Session
}

// audience is the sessions of one shard that are subscribed to one group.
type audience struct {
	mu   sync.Mutex
	subs []*subscription
	dead bool // removed from the shard, because nobody was left

	merging int // the worker's: index into its merged jobs, plus one
}

// subscription ties a session to an audience.
type subscription struct {
	session  *Session
	audience *audience
	group    string
	at       int // index in audience.subs, guarded by audience.mu
}

func newShard(h *Hub) *shard {
	s := &shard{hub: h, audiences: map[string]*audience{}}
	s.queue.init()
	return s
}

// run is the shard's worker.
func (s *shard) run() {
	var jobs, merged []job
	for {
		if jobs = s.queue.take(jobs); jobs == nil {
			return
		}
		merged = merge(merged[:0], jobs)
		for i := range merged {
			s.write(merged[i])
		}
		clear(jobs)
		clear(merged)
	}
}

// merge joins the jobs of each audience, up to joinSize bytes a buffer, so that what has waited leaves together.
func merge(merged, jobs []job) []job {
	if len(jobs) == 1 {
		return append(merged, jobs[0])
	}
	for _, j := range jobs {
		at := j.audience.merging - 1
		if at < 0 || len(merged[at].frames)+len(j.frames) > joinSize {
			merged = append(merged, j)
			j.audience.merging = len(merged)
			continue
		}
		m := &merged[at]
		if !m.own || cap(m.frames)-len(m.frames) < len(j.frames) {
			grown := make([]byte, len(m.frames), min(joinSize, 4*(len(m.frames)+len(j.frames))))
			copy(grown, m.frames)
			m.frames, m.own = grown, true
		}
		m.frames = append(m.frames, j.frames...)
		m.count += j.count
	}
	for i := range merged {
		merged[i].audience.merging = 0
	}
	return merged
}

// write sends a job's frames to every session of its audience.
func (s *shard) write(j job) {
	limit := s.hub.Limits().QueuePerConnection
	j.audience.mu.Lock()
	sent := 0
	for _, sub := range j.audience.subs {
		if sub.session.socket.Send(j.frames, limit) {
			sent++
		}
	}
	n := len(j.audience.subs)
	j.audience.mu.Unlock()
	s.hub.stats.deliveries.Add(uint64(sent * j.count))
	s.hub.stats.bytes.Add(uint64(sent * len(j.frames)))
	s.hub.stats.missed.Add(uint64((n - sent) * j.count))
}

// audience returns the audience of a group, nil if no session of this shard is subscribed to it.
func (s *shard) audience(group string) *audience {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.audiences[group]
}

// subscribe adds session to the audience of a group.
func (s *shard) subscribe(session *Session, group string) *subscription {
	sub := &subscription{session: session, group: group}
	for {
		s.mu.Lock()
		a := s.audiences[group]
		if a == nil {
			a = &audience{}
			s.audiences[group] = a
		}
		s.mu.Unlock()

		a.mu.Lock()
		if a.dead { // emptied meanwhile
			a.mu.Unlock()
			continue
		}
		sub.audience, sub.at = a, len(a.subs)
		a.subs = append(a.subs, sub)
		a.mu.Unlock()
		return sub
	}
}

// unsubscribe takes sub out of its audience. When it returns, nothing of the group is written to the session any more.
func (s *shard) unsubscribe(sub *subscription) {
	a := sub.audience
	a.mu.Lock()
	last := len(a.subs) - 1
	a.subs[sub.at] = a.subs[last]
	a.subs[sub.at].at = sub.at
	a.subs[last] = nil
	a.subs = a.subs[:last]
	a.dead = last == 0
	dead := a.dead
	a.mu.Unlock()
	if dead {
		s.mu.Lock()
		if s.audiences[sub.group] == a {
			delete(s.audiences, sub.group)
		}
		s.mu.Unlock()
	}
}

func (s *shard) add(session *Session) {
	s.sessionsMu.Lock()
	defer s.sessionsMu.Unlock()
	session.at = len(s.sessions)
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
