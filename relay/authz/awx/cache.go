package awx

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// cache keeps answers for a while and lets all who ask the same thing at once share one question.
type cache[V any] struct {
	keep func(V, error) time.Duration // how long an answer is good
	yes  func(V) bool                 // for the figures
	questions
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

func newCache[V any](keep func(V, error) time.Duration, yes func(V) bool) *cache[V] {
	return &cache[V]{keep: keep, yes: yes, answer: map[string]*answer[V]{}}
}

// get returns the answer for key, asking if nobody has lately; if afresh, then also if somebody has and there was an
// answer. The question outlives a caller whose ctx ends, as long as another one waits for the answer; ask's context has
// the values of the first caller's, and ends when nobody waits.
func (c *cache[V]) get(ctx context.Context, key string, afresh bool, ask func(context.Context) (V, error)) (V, error) {
	now := time.Now()
	c.mu.Lock()
	a := c.answer[key]
	switch {
	case a != nil && !a.ended():
		c.shared.Add(1)
	case a != nil && !now.After(a.expires) && !(afresh && a.certain()):
		c.cached.Add(1)
	default:
		c.asked.Add(1)
		c.sweep(now)
		asking, abandon := context.WithCancel(context.WithoutCancel(ctx))
		a = &answer[V]{done: make(chan struct{}), abandon: abandon}
		c.answer[key] = a
		go func() {
			defer abandon()
			a.value, a.err = ask(asking)
			ended := time.Now()
			if asking.Err() != nil { // every caller has given up: that says nothing of the API
				c.abandoned.Add(1)
			} else {
				c.ended(c.yes(a.value), a.err, ended.Sub(now))
			}
			a.expires = ended.Add(c.keep(a.value, a.err))
			c.mu.Lock()
			a.abandon = func() {} // the other one would keep what the first caller's context holds, such as its request, in memory
			c.mu.Unlock()
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

func (a *answer[V]) ended() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// certain reports whether an answer that has come says yes or no.
func (a *answer[V]) certain() bool { return a.err == nil || errors.Is(a.err, relay.ErrUnauthenticated) }

func (a *answer[V]) expired(now time.Time) bool { return a.ended() && now.After(a.expires) }

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
