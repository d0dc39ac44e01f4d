package fairqueue_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay/internal/fairqueue"
)

func BenchmarkUncontended(b *testing.B) {
	q := fairqueue.New(32, classes()...)
	for b.Loop() {
		if err := q.Acquire(b.Context(), known, "a"); err != nil {
			b.Fatal(err)
		}
		q.Release(known)
	}
}

// BenchmarkFlood is one round over 1,001 keys with a queued caller each.
func BenchmarkFlood(b *testing.B) {
	q := fairqueue.New(1, fairqueue.Class{Weight: 1, MaxPerKey: 10, MaxQueued: 2000, Timeout: time.Hour})
	ctx, cancel := context.WithCancel(b.Context())
	var all sync.WaitGroup
	for i := range 1000 {
		all.Go(func() {
			for q.Acquire(ctx, 0, fmt.Sprint(i)) == nil {
				q.Release(0)
			}
		})
	}
	for b.Loop() {
		if err := q.Acquire(ctx, 0, "bench"); err != nil {
			b.Fatal(err)
		}
		q.Release(0)
	}
	cancel()
	all.Wait()
}
