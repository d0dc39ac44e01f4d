package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	// defaultStartWait is how long an event waits for an instance after a failure. Guests in C start in 0.05 ms, in Go
	// in 5 ms, and more slowly on a busy machine. Events of other groups than the failed one must not be withheld for
	// that.
	defaultStartWait = 500 * time.Millisecond
	// startPauseMin is the pause before the next attempt after an instance that did not start. The pause doubles with
	// each failed attempt, up to startPauseMax.
	startPauseMin, startPauseMax = 50 * time.Millisecond, 5 * time.Second
)

// supplyPhase is the phase of a module's supply of spare instances.
type supplyPhase uint8

const (
	supplyIdle     supplyPhase = iota // no build is in flight; a request starts one
	supplyBuilding                    // a goroutine instantiates the module
	supplyPaused                      // the last build failed; a request starts the next one from retryAt on
	supplyClosed                      // the module is being closed; nothing is built any more
)

// supplyEvent is an input of a supply.
type supplyEvent uint8

const (
	instanceRequested supplyEvent = iota
	buildSucceeded
	buildFailed
	moduleClosed
)

// supplyState is the state of a module's supply of spare instances.
type supplyState struct {
	phase        supplyPhase
	failedBuilds int       // in a row
	retryAt      time.Time // while paused
}

// next returns the state after an event. All changes of the phase happen here.
func (s supplyState) next(event supplyEvent, now time.Time) supplyState {
	switch {
	case s.phase == supplyClosed || event == moduleClosed:
		return supplyState{phase: supplyClosed}
	case event == instanceRequested:
		if s.phase == supplyIdle || s.phase == supplyPaused && !now.Before(s.retryAt) {
			s.phase = supplyBuilding
		}
	case event == buildSucceeded:
		return supplyState{phase: supplyIdle}
	case event == buildFailed:
		s.phase = supplyPaused
		s.retryAt = now.Add(min(startPauseMax, startPauseMin<<min(s.failedBuilds, 10)))
		s.failedBuilds++
	}
	return s
}

// supply builds spare instances in the background. Methods are safe for concurrent use.
type supply struct {
	spare  chan *instance // holds at most one instance, which replaces a failed one at once
	failed chan struct{}  // tells a waiting call that a build has failed

	ctx    context.Context // of the build in flight
	cancel context.CancelFunc

	mu     sync.Mutex // guards state
	state  supplyState
	builds sync.WaitGroup
}

func newSupply() supply {
	ctx, cancel := context.WithCancel(context.Background())
	return supply{spare: make(chan *instance, 1), failed: make(chan struct{}), ctx: ctx, cancel: cancel}
}

// advance applies an event to the state. Only buildFailed depends on the time.
func (s *supply) advance(event supplyEvent, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = s.state.next(event, now)
}

// requestInstance starts building a spare instance unless one is ready, a build is in flight, or the supply is
// paused. It returns the phase afterwards, and supplyIdle if a spare is ready.
func (m *module) requestInstance() supplyPhase {
	s := &m.supply
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.state.phase
	if before != supplyClosed && len(s.spare) > 0 {
		return supplyIdle // also while paused: another build may have failed since
	}
	s.state = s.state.next(instanceRequested, m.env.now())
	if before != supplyBuilding && s.state.phase == supplyBuilding {
		s.builds.Go(m.buildSpare) // under the lock, so that closeSupply waits for the build
	}
	return s.state.phase
}

// buildSpare instantiates the module and offers the instance as the spare.
func (m *module) buildSpare() {
	in, err := m.instantiate(m.supply.ctx, m.env)
	if err != nil {
		m.supply.advance(buildFailed, m.env.now())
		m.env.log.write(slog.LevelWarn, "new instance failed to start: "+err.Error())
		select {
		case m.supply.failed <- struct{}{}:
		default: // no call waits
		}
		return
	}
	// Before the instance is offered, so that the call that takes it can request the next one.
	m.supply.advance(buildSucceeded, time.Time{})
	select {
	case m.supply.spare <- in:
	default: // another build was faster
		in.close()
	}
}

// awaitInstance returns an instance to replace a failed one: the spare, or the next that is built. It waits at most
// startWait, because the caller has other groups' events to deliver. errReplaced means that the module is being closed.
// See docs/decisions/plugins.md#why-does-an-event-wait-half-a-second-for-an-instance
func (m *module) awaitInstance() (*instance, error) {
	var timeout <-chan time.Time
	for {
		select {
		case in := <-m.supply.spare:
			m.requestInstance()
			return in, nil
		default:
		}
		switch m.requestInstance() {
		case supplyClosed:
			return nil, errReplaced
		case supplyPaused:
			return nil, startFailure(errors.New("the last attempts failed; see the plugin's log"))
		}
		if timeout == nil {
			timer := time.NewTimer(m.startWait)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case in := <-m.supply.spare:
			m.requestInstance()
			return in, nil
		case <-m.supply.failed:
			return nil, startFailure(errors.New("the attempt failed; see the plugin's log"))
		case <-timeout:
			return nil, startFailure(fmt.Errorf("no instance was ready within %v", m.startWait))
		}
	}
}

func startFailure(cause error) *Failure {
	return &Failure{Kind: KindStart, Call: "start of a new instance", Err: cause}
}

// closeSupply ends the supply, with the build in flight, and frees the spare instance.
func (m *module) closeSupply() {
	m.supply.advance(moduleClosed, time.Time{})
	m.supply.cancel()
	m.supply.builds.Wait()
	select {
	case in := <-m.supply.spare:
		in.close()
	default:
	}
}
