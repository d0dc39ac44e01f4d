package testkit

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"
)

// Patience bounds waits for events that follow soon. A passing test never waits that long. The environment variable
// EDGERELAY_TEST_PATIENCE multiplies the limit on a slow or busy machine.
var Patience = Scale(30 * time.Second)

// Scale multiplies a time limit by the environment variable EDGERELAY_TEST_PATIENCE, if set.
func Scale(limit time.Duration) time.Duration {
	if factor, err := strconv.ParseFloat(os.Getenv("EDGERELAY_TEST_PATIENCE"), 64); err == nil && factor > 0 {
		return time.Duration(float64(limit) * factor)
	}
	return limit
}

// Condition is met when the result is true or a nil error. An error describes the missing part.
type Condition interface{ func() bool | func() error }

// Eventually waits until a condition is met, and ends the test when Patience is over. A failure prints the name of the
// condition and its last error.
func Eventually[C Condition](t testing.TB, name string, condition C) {
	t.Helper()
	EventuallyWithin(t, Patience, name, condition)
}

// EventuallyWithin is Eventually with another time limit, where the limit belongs to the behavior under test.
func EventuallyWithin[C Condition](t testing.TB, limit time.Duration, name string, condition C) {
	t.Helper()
	if err := Poll(limit, nil, asCheck(condition)); err != nil {
		t.Fatalf("%s: not within %v: %v", name, limit, err)
	}
}

var errNotMet = errors.New("the condition is not met")

func asCheck[C Condition](condition C) func() error {
	switch f := any(condition).(type) {
	case func() error:
		return f
	case func() bool:
		return func() error {
			if f() {
				return nil
			}
			return errNotMet
		}
	}
	panic(fmt.Sprintf("a condition of type %T", condition))
}

// pollInterval is the longest time between two checks. The first checks follow each other faster.
const pollInterval = 10 * time.Millisecond

// Poll calls check until it returns nil, the limit is over or stop is closed. It returns the last error of check.
func Poll(limit time.Duration, stop <-chan struct{}, check func() error) error {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	interval := time.Millisecond
	next := time.NewTimer(interval)
	defer next.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-deadline.C:
			return err
		case <-stop:
			return err
		case <-next.C:
			interval = min(2*interval, pollInterval)
			next.Reset(interval)
		}
	}
}

// Pause waits for a time that is part of a scene, or until stop is closed. It is no way to await a condition.
func Pause(stop <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-stop:
	}
}
