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
	if got := ran.Load(); got != 10 {
		t.Errorf("%d of 10 goroutines had run", got)
	}
	if pause := n.AcceptPause(); pause < 10*time.Millisecond {
		t.Errorf("a pause of %s is counted, want at least 10ms", pause)
	}
}
