package httpstream

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Set holds the open connections of a server. The zero value is an empty set. All methods may be called concurrently.
type Set struct {
	// Parent has the connections of several sets, if it is not nil.
	Parent *Set

	mu    sync.Mutex
	conns map[*Conn]struct{}
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
		s.conns = map[*Conn]struct{}{}
	}
	s.conns[c] = struct{}{}
}

// remove removes a connection that has ended.
func (s *Set) remove(c *Conn) {
	if s == nil {
		return
	}
	s.Parent.remove(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// Len returns the number of open connections.
func (s *Set) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// has reports whether a connection is open.
func (s *Set) has(c *Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.conns[c]
	return ok
}

// Evict closes all connections that are open now, in random order, evenly spread over a time. Evict returns at once.
func (s *Set) Evict(over time.Duration, code int, reason string) {
	s.mu.Lock()
	conns := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	if len(conns) == 0 {
		return
	}
	rand.Shuffle(len(conns), func(i, k int) { conns[i], conns[k] = conns[k], conns[i] })
	e := &eviction{s, conns, over / time.Duration(len(conns)), code, reason}
	// The first one waits too: a reload must not disconnect the only client of a server at once.
	time.AfterFunc(rand.N(e.interval+1), e.next)
}

// eviction is an eviction in progress. A timer and no goroutine waits, since an eviction may last for an hour.
type eviction struct {
	set      *Set
	conns    []*Conn // the last one is next
	interval time.Duration
	code     int
	reason   string
}

// next closes the next connection that is still open.
func (e *eviction) next() {
	for len(e.conns) > 0 {
		last := len(e.conns) - 1
		c := e.conns[last]
		e.conns[last] = nil
		e.conns = e.conns[:last]
		if e.set.has(c) {
			c.served.Close(e.code, e.reason)
			break
		}
	}
	if len(e.conns) > 0 {
		time.AfterFunc(e.interval, e.next)
	}
}
