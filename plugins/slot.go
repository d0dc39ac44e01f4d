package plugins

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
)

var (
	// errReplaced tells a caller that the module was closed after the caller had looked it up. The plugin's current
	// module, if there is one, takes the event.
	errReplaced = errors.New("the module has been replaced")
	// errBreakerOpen tells that the circuit breaker suspends the call.
	errBreakerOpen = errors.New("circuit breaker open for this group after failures there")
)

// slot holds an instance of a module. All events of a group use the same slot.
// See docs/decisions/plugins.md#why-does-the-group-select-the-instance
type slot struct {
	breakers breakers // of the groups that use this slot; has its own lock

	mu       sync.Mutex // held during a call; guards the fields below
	instance *instance  // nil after a failure, until the next call
	closed   bool
	tally    tally
	_        [64]byte // keeps neighboring slots off this cache line
}

// acquire locks the slot that serves the group and makes sure that it holds an instance. The caller must release the
// slot unless there is an error. errReplaced and errBreakerOpen mean that no call was made; any other error is a
// failure that is already recorded.
func (m *module) acquire(key breakerKey, hash uint64) (*slot, error) {
	s := &m.slots[hash%uint64(len(m.slots))]
	if !s.breakers.allow(key) {
		return nil, errBreakerOpen
	}
	s.mu.Lock()
	if s.instance != nil {
		return s, nil
	}
	err := errReplaced
	if !s.closed {
		s.instance, err = m.awaitInstance()
	}
	if err == nil {
		return s, nil
	}
	if f, failed := err.(*Failure); failed {
		return nil, m.release(s, key, f)
	}
	s.mu.Unlock()
	s.breakers.abandon(key)
	return nil, err
}

// release ends a call: release records the call and, after a failure, discards the instance unless that is
// intact.
func (m *module) release(s *slot, key breakerKey, f *Failure) error {
	s.tally.calls++
	if s.instance != nil {
		s.tally.fuel += uint64(s.instance.takeSpentFuel())
	}
	if f == nil {
		s.mu.Unlock()
		s.breakers.succeeded(key)
		return nil
	}
	m.recordFailure(s, key, f)
	s.mu.Unlock()
	if !f.Kind.countsForBreaker() {
		s.breakers.abandon(key)
	} else if s.breakers.failed(key) {
		m.env.log.write(slog.LevelError, fmt.Sprintf(
			"circuit breaker open for %s in group %s, for %v: %d more calls failed than succeeded; last failure: %v",
			key.hook, key.group, m.spec.Cooldown, m.spec.MaxFailures, f))
	}
	return f
}

// recordFailure logs and counts a failure, and discards the slot's instance unless the guest returned in order. The
// caller holds the slot's lock.
func (m *module) recordFailure(s *slot, key breakerKey, f *Failure) {
	f.Plugin = m.spec.Name
	s.tally.failures[f.Kind.index()]++
	s.tally.last, s.tally.lastAt = f, m.env.now()
	if s.instance != nil && !f.intact {
		s.instance.close()
		s.instance = nil
	}
	text := f.Error()
	if key.group != "" {
		text += " (group " + key.group + ")"
	}
	m.env.log.write(slog.LevelWarn, text)
	m.requestInstance()
}

// close waits for the call in flight and frees the instance. Later callers get errReplaced.
func (s *slot) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.instance != nil {
		s.instance.close()
		s.instance = nil
	}
}
