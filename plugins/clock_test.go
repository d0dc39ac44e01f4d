package plugins

import (
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit/stepped"
)

// TestClockSteps sets the wall clock: keys expire, and circuit breakers retry, by elapsed time.
func TestClockSteps(t *testing.T) {
	for _, step := range []time.Duration{-time.Hour, time.Hour} {
		began, now := time.Now(), time.Now()
		clock := func() time.Time { return now }
		kv := newStore(1<<10, clock)
		b := &breakers{limits: breakerLimits{1, time.Second}, now: clock}
		key := breakerKey{hook: OnEvent, group: "g"}
		if !kv.set([]byte("k"), []byte("v"), time.Minute) || !b.failed(key) {
			t.Fatal("the store is full, or the breaker did not open")
		}
		now = stepped.By(began.Add(900*time.Millisecond), step)
		if b.allow(key) {
			t.Errorf("a step of %v: retried too early", step)
		}
		now = stepped.By(began.Add(2*time.Second), step)
		if !b.allow(key) {
			t.Errorf("a step of %v: not retried", step)
		}
		now = stepped.By(began.Add(59*time.Second), step)
		if _, ok := kv.get([]byte("k"), nil); !ok {
			t.Errorf("a step of %v: the key expired too early", step)
		}
		now = stepped.By(began.Add(61*time.Second), step)
		if _, ok := kv.get([]byte("k"), nil); ok {
			t.Errorf("a step of %v: the key did not expire", step)
		}
	}
}
