package netpoll

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// flushFunc is a Flusher.
type flushFunc func()

func (f flushFunc) FlushQueue() { f() }

// Clients that accept nothing do not keep the others waiting, however many they are.
func TestStalledFlushersAreReplaced(t *testing.T) {
	var p flushers
	release := make(chan struct{})
	var stalled sync.WaitGroup
	stalled.Add(2000)
	for range 2000 {
		p.add(flushFunc(func() {
			<-release
			stalled.Done()
		}))
	}
	done := make(chan struct{})
	began := time.Now()
	p.add(flushFunc(func() { close(done) }))
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("a queue waits behind those of clients that accept nothing")
	}
	t.Logf("flushed after %v", time.Since(began))
	close(release)
	stalled.Wait()
	testkit.Eventually(t, "the pool is empty", func() error { return p.restless() })
}

// Queues that are written at once need few goroutines.
func TestFewFlushers(t *testing.T) {
	var p flushers
	var running, most atomic.Int32
	var all sync.WaitGroup
	all.Add(5000)
	for range 5000 {
		p.add(flushFunc(func() {
			if n := running.Add(1); n > most.Load() {
				most.Store(n)
			}
			runtime.Gosched()
			running.Add(-1)
			all.Done()
		}))
	}
	all.Wait()
	testkit.Eventually(t, "the pool is empty", func() error { return p.restless() })
	// A stall is possible on a busy machine, and adds goroutines.
	if limit := int32(4 * flushersPerProcessor * runtime.GOMAXPROCS(0)); most.Load() > limit {
		t.Errorf("%d goroutines at a time, want at most %d", most.Load(), limit)
	}
}

// restless returns an error while the pool has goroutines or queues.
func (p *flushers) restless() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.active != 0 || p.head != len(p.queue) || p.watching {
		return fmt.Errorf("%d goroutines, %d queues, watching %v", p.active, len(p.queue)-p.head, p.watching)
	}
	return nil
}
