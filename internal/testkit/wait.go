package testkit

import (
	"testing"
	"time"
)

// Eventually calls check until it returns nil, and ends the test with its last
// error when that takes longer than within. What says what is waited for.
func Eventually(t testing.TB, within time.Duration, what string, check func() error) {
	t.Helper()
	if err := Poll(within, nil, check); err != nil {
		t.Fatalf("%s: not within %v: %v", what, within, err)
	}
}

// poll calls check until it returns nil, the time is over or stop is closed.
func Poll(within time.Duration, stop <-chan struct{}, check func() error) error {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
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
		case <-tick.C:
		}
	}
}
