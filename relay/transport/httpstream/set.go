package httpstream

import (
	"math/rand/v2"
	"sync"
	"time"
)

// Set holds the open connections of a server. The zero value is an empty set. All methods may be called concurrently.
type Set struct {
	// Parent has the connections of several sets, if it is not nil.
	Parent *Set

	mu sync.Mutex
	// conns has the eviction of each connection, nil without one.
	conns map[*Conn]*eviction
}

// add adds an open connection.
func (s *Set) add(c *Conn) {
	if s == nil {
		return
	}
	s.Parent.add(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		s.conns = map[*Conn]*eviction{}
	}
	s.conns[c] = nil
}

// remove removes a connection that has ended.
func (s *Set) remove(c *Conn) {
	if s == nil {
		return
	}
	s.Parent.remove(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.conns[c]; e != nil {
		e.drop(c)
	}
	delete(s.conns, c)
}

// Len returns the number of open connections.
func (s *Set) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Evict closes all connections that are open now, in random order, evenly spread over a time. Evict returns at once. A
// connection that an earlier call is to close keeps its time.
func (s *Set) Evict(over time.Duration, code int, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &eviction{set: s, code: code, reason: reason, conns: map[*Conn]struct{}{}}
	for c, earlier := range s.conns {
		if earlier == nil {
			s.conns[c] = e
			e.conns[c] = struct{}{}
		}
	}
	if len(e.conns) == 0 {
		return
	}
	e.interval = over / time.Duration(len(e.conns))
	// The first one waits too: a reload must not disconnect the only client of a server at once.
	e.timer = time.AfterFunc(rand.N(e.interval+1), e.next)
}

// eviction is an eviction in progress. A timer and no goroutine waits, since an eviction may last for an hour.
//
// It has only open connections: each one holds the server and the whole configuration that accepted it. The set's lock
// guards all fields.
type eviction struct {
	set      *Set
	conns    map[*Conn]struct{}
	timer    *time.Timer
	interval time.Duration
	code     int
	reason   string
}

// next closes one of the connections. The order of a map's iteration is random.
func (e *eviction) next() {
	e.set.mu.Lock()
	var c *Conn
	for c = range e.conns {
		break
	}
	if c != nil {
		e.drop(c)
	}
	if len(e.conns) > 0 {
		e.timer.Reset(e.interval)
	}
	e.set.mu.Unlock()
	if c != nil {
		c.evict(e.code, e.reason)
	}
}

// drop forgets a connection that has ended or is being closed.
func (e *eviction) drop(c *Conn) {
	if delete(e.conns, c); len(e.conns) == 0 {
		e.timer.Stop()
	}
}
