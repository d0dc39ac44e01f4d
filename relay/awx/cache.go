package awx

import (
	"context"
	"sync"
	"time"
)

// cache keeps answers for a while and lets all who ask the same thing at once share one question.
type cache[V any] struct {
	keep   func(V, error) time.Duration // how long an answer is good
	mu     sync.Mutex
	answer map[string]*answer[V]
	swept  time.Time
}

type answer[V any] struct {
	done    chan struct{}
	value   V
	err     error
	expires time.Time // valid once done is closed
}

// sweepSize is from how many answers on expired ones are looked for.
const sweepSize = 1024

func newCache[V any](keep func(V, error) time.Duration) *cache[V] {
	return &cache[V]{keep: keep, answer: map[string]*answer[V]{}}
}

// get returns the answer for key, asking if nobody has lately. ask runs to its end even if ctx, which only bounds the wait, is over before.
func (c *cache[V]) get(ctx context.Context, key string, ask func() (V, error)) (V, error) {
	now := time.Now()
	c.mu.Lock()
	a := c.answer[key]
	if a == nil || a.expired(now) {
		c.sweep(now)
		a = &answer[V]{done: make(chan struct{})}
		c.answer[key] = a
		go func() {
			a.value, a.err = ask()
			a.expires = time.Now().Add(c.keep(a.value, a.err))
			close(a.done)
		}()
	}
	c.mu.Unlock()
	select {
	case <-a.done:
		return a.value, a.err
	case <-ctx.Done():
		var none V
		return none, ctx.Err()
	}
}

func (a *answer[V]) expired(now time.Time) bool {
	select {
	case <-a.done:
		return now.After(a.expires)
	default:
		return false
	}
}

// sweep forgets expired answers now and then. c.mu is held.
func (c *cache[V]) sweep(now time.Time) {
	if len(c.answer) < sweepSize || now.Sub(c.swept) < time.Second {
		return
	}
	c.swept = now
	for key, a := range c.answer {
		if a.expired(now) {
			delete(c.answer, key)
		}
	}
}
