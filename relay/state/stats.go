package state

import (
	"sync/atomic"
	"time"
)

// statuses are the statuses in metrics, by name.
var statuses = [...]struct {
	status int32
	name   string
}{
	{OK, "ok"},
	{None, "none"},
	{Conflict, "conflict"},
	{Unavailable, "unavailable"},
	{TooLarge, "too_large"},
	{Invalid, "invalid"},
	{Busy, "busy"},
}

// Stats counts the work of a store and its alarms.
type Stats struct {
	requests [OpCount][len(statuses)]atomic.Uint64
	nanos    [OpCount]atomic.Int64

	batches, batched, sessions atomic.Uint64

	fired, failed, dropped, moved atomic.Uint64
}

func (s *Stats) count(op Op, status int32, took time.Duration) {
	if op >= OpCount {
		return
	}
	for i := range statuses {
		if statuses[i].status == status {
			s.requests[op][i].Add(1)
		}
	}
	s.nanos[op].Add(int64(took))
}

// Counters are counts of a store.
type Counters struct {
	// Batches counts round trips to Redis, Batched the requests in them, and Sessions the connections or reconnections.
	Batches, Batched, Sessions uint64
	// Fired counts alarms that a function has processed, Failed the attempts that failed, Dropped the alarms that were
	// given up after the last attempt, and Moved those that this node took over from a node that had not finished.
	Fired, Failed, Dropped, Moved uint64
}

// Counters returns the current counts.
func (s *Store) Counters() Counters {
	t := &s.stats
	return Counters{
		Batches: t.batches.Load(), Batched: t.batched.Load(), Sessions: t.sessions.Load(),
		Fired: t.fired.Load(), Failed: t.failed.Load(), Dropped: t.dropped.Load(), Moved: t.moved.Load(),
	}
}

// EachRequestCount calls f for each operation and status with the number of requests.
func (s *Store) EachRequestCount(f func(op Op, status string, count uint64)) {
	for op := range OpCount {
		for i := range statuses {
			f(op, statuses[i].name, s.stats.requests[op][i].Load())
		}
	}
}

// RequestTime returns the total time of the requests of an operation.
func (s *Store) RequestTime(op Op) time.Duration { return time.Duration(s.stats.nanos[op].Load()) }
