package outbound

import (
	"sync"
	"time"
)

// bucket bounds a rate. Its methods are safe for concurrent use.
type bucket struct {
	now func() time.Time

	mu     sync.Mutex
	tokens float64
	at     time.Time // of tokens; zero: full
}

// take takes a token from a bucket that gets rate tokens a second, and holds as many, at least one.
func (b *bucket) take(rate float64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now, full := b.now(), max(rate, 1)
	if b.at.IsZero() {
		b.tokens = full
	} else {
		b.tokens = min(full, b.tokens+max(0, now.Sub(b.at).Seconds())*rate)
	}
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
