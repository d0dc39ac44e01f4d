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
	waiting int       // callers that have not given up; guarded by cache.mu
	abandon context.CancelFunc
}

// sweepSize is from how many answers on expired ones are looked for.
const sweepSize = 1024

func newCache[V any](keep func(V, error) time.Duration) *cache[V] {
	return &cache[V]{keep: keep, answer: map[string]*answer[V]{}}
}

// get returns the answer for key, asking if nobody has lately. The question outlives a caller whose ctx ends, as
// long as another one waits for the answer; ask's context ends when nobody does.
func (c *cache[V]) get(ctx context.Context, key string, ask func(context.Context) (V, error)) (V, error) {
	now := time.Now()
	c.mu.Lock()
	a := c.answer[key]
	if a == nil || a.expired(now) {
		c.sweep(now)
		asking, abandon := context.WithCancel(context.Background())
		a = &answer[V]{done: make(chan struct{}), abandon: abandon}
		c.answer[key] = a
		go func() {
			defer abandon()
			a.value, a.err = ask(asking)
			a.expires = time.Now().Add(c.keep(a.value, a.err))
			close(a.done)
		}()
	}
	a.waiting++
	c.mu.Unlock()
	select {
	case <-a.done:
		return a.value, a.err
	case <-ctx.Done():
		c.giveUp(key, a)
		var none V
		return none, ctx.Err()
	}
}

// giveUp counts one caller less, and drops the question with the last one.
func (c *cache[V]) giveUp(key string, a *answer[V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.waiting--; a.waiting > 0 {
		return
	}
	a.abandon()
	if c.answer[key] == a {
		delete(c.answer, key)
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
