package node

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// Work that can run, such as the delivery of an event, runs before the next connection is accepted.
func TestAcceptingWaitsForOtherWork(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	// The scheduler takes this goroutine before the others once in 61 turns. The next attempt begins at another one.
	for attempt := 1; ; attempt++ {
		n := &Node{}
		var ran atomic.Int32
		for range 10 {
			go func() {
				for began := time.Now(); time.Since(began) < time.Millisecond; {
					continue
				}
				ran.Add(1)
			}()
		}
		if n.awaitTurn(t.Context(), nil) != t.Context() {
			t.Error("another context")
		}
		got, pause := ran.Load(), n.AcceptPause()
		if got == 10 && pause >= 10*time.Millisecond {
			return
		}
		if attempt == 10 {
			t.Fatalf("%d of 10 goroutines had run, a pause of %s is counted, want at least 10ms", got, pause)
		}
		for ran.Load() < 10 {
			runtime.Gosched()
		}
	}
}
