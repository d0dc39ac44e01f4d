package state

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Store is the shared state of plugins. All methods are safe for concurrent use.
type Store struct {
	limits atomic.Pointer[Limits]
	place  place
	stats  Stats
	kind   string
	// alarmSet is called for every alarm that this node has set, with the time at which it is due.
	alarmSet atomic.Pointer[func(plugin string, due time.Time)]
}

// place carries out requests.
type place interface {
	// start carries out a request that is checked, or queues it. done is called once, never by start itself.
	start(r *Request, done func(Response))
	// trouble says in a line why requests fail at the moment; empty if they do not.
	trouble() string
	// close answers queued requests, and later ones, with [Unavailable].
	close()
}

// Open returns a store in Redis, on the hosts of a channel layer. nil is a store in this process.
func Open(layer relay.ScriptPipeliner, limits Limits, log *slog.Logger) *Store {
	s := &Store{kind: "memory"}
	s.SetLimits(limits)
	if layer == nil {
		s.place = newMemory(s.limits.Load, time.Now)
	} else {
		s.kind, s.place = "redis", newRedis(layer, s.limits.Load, &s.stats, log)
	}
	return s
}

// SetLimits changes the limits. What is stored stays, even beyond new limits.
func (s *Store) SetLimits(limits Limits) {
	limits = limits.WithDefaults()
	s.limits.Store(&limits)
}

// Kind is "memory" or "redis".
func (s *Store) Kind() string { return s.kind }

// Trouble says in a line why requests fail at the moment; empty if they do not.
func (s *Store) Trouble() string { return s.place.trouble() }

// Start starts a request, without blocking. Requests that one goroutine starts take effect in the order of the calls.
// done is called once, from another goroutine, and must return quickly.
func (s *Store) Start(r *Request, done func(Response)) {
	began := time.Now()
	if status := s.limits.Load().check(r); status != OK {
		s.stats.count(r.Op, status, 0)
		go done(Response{Status: status})
		return
	}
	s.place.start(r, func(res Response) {
		s.stats.count(r.Op, res.Status, time.Since(began))
		if hint := s.alarmSet.Load(); r.Op == AlarmSet && res.Status == OK && hint != nil {
			(*hint)(r.Plugin, r.At)
		}
		if res.wait > 0 { // The alarm before may still start on another node.
			time.AfterFunc(res.wait, func() { done(res) })
			return
		}
		done(res)
	})
}

// do starts an operation of this package and waits for the response.
func (s *Store) do(r *Request) Response {
	answered := make(chan Response, 1)
	s.place.start(r, func(res Response) { answered <- res })
	return <-answered
}

// errUnavailable is the error of [Store.Usage].
var errUnavailable = errors.New("shared state unavailable; check the Redis that keeps it")

// Usage returns what a plugin's state needs. It waits for at most the timeout of requests.
func (s *Store) Usage(plugin string) (Usage, error) {
	res := s.do(&Request{Plugin: plugin, Op: opUsage})
	if res.Status != OK {
		return Usage{}, errUnavailable
	}
	return res.usage, nil
}

// Close ends the store. Requests that wait, and later ones, have the status [Unavailable].
func (s *Store) Close() { s.place.close() }
