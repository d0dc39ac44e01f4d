package plugins

import (
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/stepped"
)

// The wall clock is set: a plugin's keys live as long as they should, and it is tried again when it should.
func TestClockSteps(t *testing.T) {
	for _, step := range []time.Duration{-time.Hour, time.Hour} {
		began, now := time.Now(), time.Now()
		clock := func() time.Time { return now }
		kv := newStore(1<<10, clock)
		b := &breakers{limit: 1, cooldown: time.Second, now: clock}
		g := gate{hook: OnEvent, group: "g"}
		if !kv.set([]byte("k"), []byte("v"), time.Minute) || b.failed(g) != time.Second {
			t.Fatal("a store that is full, a breaker that does not open")
		}
		now = stepped.By(began.Add(900*time.Millisecond), step)
		if b.allow(g) {
			t.Errorf("a step of %v: tried again too early", step)
		}
		now = stepped.By(began.Add(2*time.Second), step)
		if !b.allow(g) {
			t.Errorf("a step of %v: not tried again", step)
		}
		now = stepped.By(began.Add(59*time.Second), step)
		if _, ok := kv.get([]byte("k"), nil); !ok {
			t.Errorf("a step of %v: the key has gone", step)
		}
		now = stepped.By(began.Add(61*time.Second), step)
		if _, ok := kv.get([]byte("k"), nil); ok {
			t.Errorf("a step of %v: the key has not gone", step)
		}
	}
}
