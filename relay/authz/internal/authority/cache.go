package authority

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Cache keeps responses for a while. Concurrent lookups of one key share one request. Methods may be called
// concurrently.
//
// golang.org/x/sync/singleflight lacks the two properties that matter here: a request ends when its last waiting
// caller leaves, and the response is kept afterwards.
// See docs/decisions/protocol-and-authz.md#why-are-lookups-shared-by-login
type Cache[V any] struct {
	lookupCounters
	ttl   func(V, error) time.Duration // 0 or below: not kept
	isYes func(V) bool                 // for the counters

	mu      sync.Mutex // guards all below, and the fields of entries that say so
	entries map[string]*entry[V]
	swept   time.Time
}

// entry is a request in flight or its response.
type entry[V any] struct {
	done chan struct{} // closed when the response is there
	// value, err and expires are written before done is closed, and constant afterwards.
	value   V
	err     error
	expires time.Time
	// waiters counts the callers that have not left. Guarded by Cache.mu, like cancel.
	waiters int
	cancel  context.CancelFunc
}

// sweepThreshold is the number of entries from which expired ones are removed.
const sweepThreshold = 1024

// NewCache returns a cache. ttl is how long a response is kept, 0 or below: not at all. isYes tells, for the counters,
// whether a response is a yes.
func NewCache[V any](ttl func(V, error) time.Duration, isYes func(V) bool) *Cache[V] {
	return &Cache[V]{ttl: ttl, isYes: isYes, entries: map[string]*entry[V]{}}
}

// Get returns the response for key from memory, from the request in flight, or from a new request. With fresh, a
// conclusive response in memory does not count.
//
// A request continues while any caller waits for it. The context of request carries the values of the first caller's
// ctx, and ends when the last caller leaves.
func (c *Cache[V]) Get(
	ctx context.Context, key string, fresh bool, request func(context.Context) (V, error),
) (V, error) {
	now := time.Now()
	c.mu.Lock()
	e := c.entries[key]
	switch {
	case e != nil && !e.completed():
		c.shared.Add(1)
	case e != nil && !now.After(e.expires) && !(fresh && e.conclusive()):
		c.cached.Add(1)
	default:
		c.requested.Add(1)
		c.sweep(now)
		requestCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		e = &entry[V]{done: make(chan struct{}), cancel: cancel}
		c.entries[key] = e
		go c.fill(requestCtx, cancel, e, now, request)
	}
	e.waiters++
	c.mu.Unlock()
	select {
	case <-e.done:
		return e.value, e.err
	case <-ctx.Done():
		c.leave(key, e)
		var zero V
		return zero, ctx.Err()
	}
}

// fill sends the request of a new entry and stores the response.
func (c *Cache[V]) fill(
	ctx context.Context, cancel context.CancelFunc, e *entry[V], began time.Time,
	request func(context.Context) (V, error),
) {
	defer cancel()
	e.value, e.err = request(ctx)
	ended := time.Now()
	if ctx.Err() != nil { // canceled by the last caller: not a failure of the authority
		c.abandoned.Add(1)
	} else {
		c.countOutcome(c.isYes(e.value), e.err, ended.Sub(began))
	}
	e.expires = ended.Add(c.ttl(e.value, e.err))
	c.mu.Lock()
	e.cancel = func() {} // the real one would keep the first caller's context, and so its request, in memory
	c.mu.Unlock()
	close(e.done)
}

// leave removes one caller. The last one cancels the request.
func (c *Cache[V]) leave(key string, e *entry[V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.waiters--; e.waiters > 0 {
		return
	}
	e.cancel()
	if c.entries[key] == e {
		delete(c.entries, key)
	}
}

func (e *entry[V]) completed() bool {
	select {
	case <-e.done:
		return true
	default:
		return false
	}
}

// conclusive reports whether a completed response is a yes or a no.
func (e *entry[V]) conclusive() bool {
	return e.err == nil || errors.Is(e.err, relay.ErrUnauthenticated)
}

func (e *entry[V]) expired(now time.Time) bool { return e.completed() && now.After(e.expires) }

// sweep removes expired entries, at most once a second. The caller holds c.mu.
func (c *Cache[V]) sweep(now time.Time) {
	if len(c.entries) < sweepThreshold || now.Sub(c.swept) < time.Second {
		return
	}
	c.swept = now
	for key, e := range c.entries {
		if e.expired(now) {
			delete(c.entries, key)
		}
	}
}
