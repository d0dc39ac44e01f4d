package plugins

import (
	"sync/atomic"
	"time"
)

// breaker sets a module aside after failures in a row. Closed, it costs two atomic loads a call. Safe for concurrent use.
type breaker struct {
	limit    int32
	cooldown time.Duration
	now      func() time.Time

	failures  atomic.Int32 // in a row
	openUntil atomic.Int64 // ticks; 0: closed
	probing   atomic.Bool  // half open: one call is under way
	tries     atomic.Int32 // probes that failed
}

// allow tells whether a call may be made; after a true, done must be called.
func (b *breaker) allow() bool {
	until := b.openUntil.Load()
	if until == 0 {
		return true
	}
	return ticks(b.now()) >= until && b.probing.CompareAndSwap(false, true)
}

// done reports how a call went, and whether the breaker opened for it.
func (b *breaker) done(ok bool) (opened bool) {
	if ok {
		if b.failures.Load() != 0 || b.openUntil.Load() != 0 {
			b.failures.Store(0)
			b.tries.Store(0)
			b.openUntil.Store(0)
			b.probing.Store(false)
		}
		return false
	}
	if b.openUntil.Load() != 0 { // a probe failed, or a call that began before the breaker opened
		if b.probing.Load() {
			b.open(b.tries.Add(1))
			b.probing.Store(false)
		}
		return false
	}
	if b.failures.Add(1) >= b.limit {
		b.open(0)
		return true
	}
	return false
}

func (b *breaker) open(tries int32) {
	b.openUntil.Store(ticks(b.now().Add(b.cooldown << min(tries, 5))))
}

// state names the breaker's state for people.
func (b *breaker) state() string {
	switch until := b.openUntil.Load(); {
	case until == 0:
		return "closed"
	case b.probing.Load() || ticks(b.now()) >= until:
		return "half-open"
	}
	return "open"
}
