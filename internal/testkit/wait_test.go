package testkit

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestPollEnds(t *testing.T) {
	failure := errors.New("not yet")
	closed := make(chan struct{})
	close(closed)
	for _, c := range []struct {
		name string
		stop <-chan struct{}
		met  time.Duration // after this time the condition is met
		want error
		took time.Duration // at most
	}{
		{name: "condition met at once"},
		{name: "condition met later", met: time.Second, took: time.Second + pollInterval},
		{name: "limit over", met: time.Hour, want: failure, took: time.Minute},
		{name: "stopped", stop: closed, met: time.Hour, want: failure},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				err := Poll(time.Minute, c.stop, func() error {
					if time.Since(start) < c.met {
						return failure
					}
					return nil
				})
				if took := time.Since(start); !errors.Is(err, c.want) || took > c.took {
					t.Errorf("got %v after %v, want %v within %v", err, took, c.want, c.took)
				}
			})
		})
	}
}

func TestEventuallyTakesBothKindsOfConditions(t *testing.T) {
	Eventually(t, "a boolean is true", func() bool { return true })
	Eventually(t, "an error is nil", func() error { return nil })
	left := 3
	EventuallyWithin(t, time.Minute, "three checks have failed", func() bool { left--; return left < 0 })
}

func TestPatienceIsScaled(t *testing.T) {
	for _, c := range []struct {
		factor string
		want   time.Duration
	}{
		{"", time.Second},
		{"2.5", 2500 * time.Millisecond},
		{"-1", time.Second},
		{"fast", time.Second},
	} {
		t.Setenv("EDGERELAY_TEST_PATIENCE", c.factor)
		if got := Scale(time.Second); got != c.want {
			t.Errorf("factor %q: got %v, want %v", c.factor, got, c.want)
		}
	}
}
