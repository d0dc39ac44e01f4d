package plugins

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/plugins/internal/jsonpath"
)

// connectRun is how many times MaxFailures calls of on_connect in a row must fail to suspend the hook if they are all
// for the same few clients.
const connectRun = 4

// SuspendedError is the error of [Pipeline.Connect] while the circuit breaker suspends on_connect for all clients.
type SuspendedError struct {
	// RetryAfter is the time until the next trial call.
	RetryAfter time.Duration
}

// Error implements error.
func (e *SuspendedError) Error() string {
	return "circuit breaker open for on_connect: the calls for the last clients failed"
}

// Is tells that no call was made.
func (e *SuspendedError) Is(target error) bool { return target == errBreakerOpen }

// connectBreaker is the circuit breaker of a module's on_connect. One client must not suspend the hook for others, so
// failures count only if no call has succeeded since: for different clients, or many in a row.
// See docs/decisions/functions.md#when-does-a-function-that-fails-refuse-clients-at-once
type connectBreaker struct {
	limits breakerLimits
	now    func() time.Time

	troubled atomic.Bool // the fields below are not zero

	mu       sync.Mutex // guards the fields below
	phase    breakerPhase
	failures int      // in a row
	clients  []uint64 // hashes of different clients among them, at most limits.maxFailures
	retryAt  int64    // ticks
}

// allow returns nil if a call may be made. The caller then reports its end.
func (b *connectBreaker) allow() error {
	if !b.troubled.Load() {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := ticks(b.now())
	switch {
	case b.phase == breakerClosed:
		return nil
	case b.phase == breakerOpen && now >= b.retryAt:
		b.phase = breakerHalfOpen
		return nil
	}
	return &SuspendedError{max(0, time.Duration(b.retryAt-now))}
}

// report reports the end of a call for a client, and returns whether the breaker opened or closed because of it. A
// trial that fails keeps the breaker open.
func (b *connectBreaker) report(event breakerEvent, client uint64) (opened, closed bool) {
	if event != callFailed && !b.troubled.Load() {
		return false, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch event {
	case callSucceeded: // also of a call that began before the breaker opened
		closed = b.phase != breakerClosed
		b.phase, b.failures, b.clients, b.retryAt = breakerClosed, 0, nil, 0
		b.troubled.Store(false)
	case callAbandoned:
		if b.phase == breakerHalfOpen {
			b.phase = breakerOpen // retryAt has passed: the next call is the trial
		}
	case callFailed:
		b.troubled.Store(true)
		opened = b.fail(client)
	}
	return opened, closed
}

// fail counts a failure. The caller holds b.mu.
func (b *connectBreaker) fail(client uint64) (opened bool) {
	b.failures++
	if len(b.clients) < b.limits.maxFailures && !slices.Contains(b.clients, client) {
		b.clients = append(b.clients, client)
	}
	if b.phase == breakerOpen {
		return false
	}
	opened = b.phase == breakerClosed
	if opened && len(b.clients) < b.limits.maxFailures && b.failures < connectRun*b.limits.maxFailures {
		return false
	}
	b.phase, b.retryAt = breakerOpen, ticks(b.now())+int64(b.limits.cooldown)
	return opened
}

// appendOpen appends the breaker to list if it is not closed.
func (b *connectBreaker) appendOpen(list []OpenBreaker) []OpenBreaker {
	if !b.troubled.Load() {
		return list
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.phase == breakerClosed {
		return list
	}
	halfOpen := b.phase == breakerHalfOpen || ticks(b.now()) >= b.retryAt
	return append(list, OpenBreaker{Hook: OnConnect.String(), HalfOpen: halfOpen})
}

// reportConnect reports the end of a call of on_connect, which f has made fail, and logs changes of the breaker.
func (m *module) reportConnect(event breakerEvent, client uint64, f *Failure) {
	switch opened, closed := m.connects.report(event, client); {
	case opened:
		m.env.log.write(slog.LevelError, fmt.Sprintf("circuit breaker open for %s, of all clients, for %v: "+
			"the calls for the last clients failed; last failure: %v", OnConnect, m.spec.Cooldown, f))
	case closed:
		m.env.log.write(slog.LevelInfo, fmt.Sprintf("circuit breaker closed for %s: clients are accepted again", OnConnect))
	}
}

// abandon reports that a permitted call was not made, or says nothing about its key.
func (m *module) abandon(s *slot, key breakerKey) {
	if key.hook == OnConnect {
		m.reportConnect(callAbandoned, key.subject, nil)
		return
	}
	s.breakers.abandon(key)
}

// clientOf returns what tells the clients of a function apart in a request of on_connect: the user, or the address. Of
// an IPv6 address, the network counts: a client chooses the rest of it.
func clientOf(request []byte) []byte {
	for _, name := range [...]string{"user_key", "address"} {
		from, to, ok := jsonpath.Find(request, []byte(name))
		if !ok || to-from <= len(`""`) {
			continue
		}
		if value := request[from:to]; name == "user_key" || bytes.Count(value, []byte(":")) < 2 {
			return value
		}
		address, err := netip.ParseAddr(string(jsonpath.Text(request[from:to])))
		if err != nil || !address.Is6() || address.Is4In6() {
			return request[from:to]
		}
		network, _ := address.WithZone("").Prefix(64) // cannot fail
		return []byte(network.String())
	}
	return nil
}

// isSuspended reports whether an error means that a circuit breaker suspended the call.
func isSuspended(err error) bool { return err != nil && errors.Is(err, errBreakerOpen) }
