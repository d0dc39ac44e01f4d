package plugins

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestCollectionsBesideGuests: a garbage collection beside a guest takes as long as beside Go code that keeps the
// processor as busy, in turn on the same machine.
func TestCollectionsBesideGuests(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	guest := func(name string) func() {
		p := pipeline(t, Options{}, Spec{
			Name: name, Wasm: fixture(t, "hostile/"+name), Groups: []string{"*"}, Instances: 1, MaxFailures: maxMaxFailures,
			Timeout: 100 * time.Millisecond, Cooldown: time.Nanosecond,
		})
		return func() { p.Process(Event{Group: "g"}, nil) }
	}
	table := make([]uint32, 8<<20)
	for i := range table {
		table[i] = uint32((i*1103515245 + 12345) & (len(table) - 1))
	}
	at, count := uint32(0), 0
	kinds := []struct {
		name string
		busy func()
		took []time.Duration
	}{
		{name: "Go code", busy: func() { count++ }},
		{name: "Go code that misses the caches", busy: func() { at = table[at] }},
		{name: "guest", busy: guest("loop")},
		{name: "guest that misses the caches", busy: guest("misses")},
	}
	const rounds, collections = 3, 7
	for range rounds {
		for i := range kinds {
			var stop atomic.Bool
			var busy sync.WaitGroup
			busy.Go(func() {
				for !stop.Load() {
					kinds[i].busy()
				}
			})
			for range collections {
				start := time.Now()
				runtime.GC()
				kinds[i].took = append(kinds[i].took, time.Since(start))
			}
			stop.Store(true)
			busy.Wait()
		}
	}
	median := func(i int) time.Duration {
		slices.Sort(kinds[i].took)
		return kinds[i].took[len(kinds[i].took)/2]
	}
	for i := range kinds {
		t.Logf("beside %s: %v, at most %v", kinds[i].name, median(i), kinds[i].took[rounds*collections-1])
	}
	for i := range 2 {
		if beside, native := median(i+2), median(i); beside > 3*native+20*time.Millisecond {
			t.Errorf("a collection beside a %s takes %v, beside %s %v", kinds[i+2].name, beside, kinds[i].name, native)
		}
	}
	if at == 0 && count == 0 {
		t.Error("the Go code did not run")
	}
}
