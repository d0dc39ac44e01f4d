package fairqueue_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgerelay/edgerelay/relay/internal/fairqueue"
)

// load is count callers of one class and key that all want a slot at the same time.
type load struct {
	class int
	key   string
	count int
}

// measureWait starts loads of callers that hold a slot for latency, and returns how long another caller waits.
func measureWait(
	t *testing.T, q *fairqueue.Queue, latency time.Duration, loads []load, class int, key string,
) (waited time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, l := range loads {
		for range l.count {
			all.Go(func() {
				for ctx.Err() == nil { // as an attacker would
					if err := q.Acquire(ctx, l.class, l.key); err != nil {
						if errors.Is(err, fairqueue.ErrFull) {
							time.Sleep(time.Second)
						}
						continue
					}
					time.Sleep(latency)
					q.Release(l.class)
				}
			})
		}
	}
	time.Sleep(3 * latency)
	began := time.Now()
	if err := q.Acquire(ctx, class, key); err != nil {
		t.Errorf("Acquire beside the loads: %v", err)
	} else {
		waited = time.Since(began)
		q.Release(class)
	}
	cancel()
	all.Wait()
	return waited
}

const (
	known = iota
	strangers
	subscriptions
	rechecks
)

func classes() []fairqueue.Class {
	return []fairqueue.Class{
		known:         {Weight: 3, MaxPerKey: 256, MaxQueued: 4096, Timeout: 10 * time.Second},
		strangers:     {Weight: 1, MaxPerKey: 1024, MaxQueued: 4096, Timeout: 30 * time.Second},
		subscriptions: {Weight: 2, MaxPerKey: 1024, MaxQueued: 8192, Timeout: 15 * time.Second},
		rechecks:      {Weight: 2, MaxPerKey: 1024, MaxQueued: 8192, Timeout: 30 * time.Second},
	}
}

// spread returns n loads of one caller each, with different keys.
func spread(class, n int) (loads []load) {
	for i := range n {
		loads = append(loads, load{class, fmt.Sprint("address ", i), 1})
	}
	return loads
}

// crowd returns a load of count callers for each of a number of keys.
func crowd(class, keys, count int) (loads []load) {
	for i := range keys {
		loads = append(loads, load{class, fmt.Sprint("address ", i), count})
	}
	return loads
}

func TestFloodDelaysOthersByWorkInFlightOnly(t *testing.T) {
	const latency = 250 * time.Millisecond
	for _, c := range []struct {
		name  string
		slots int
		loads []load
		class int
		most  time.Duration
	}{
		{
			"4,200 strangers from one address, another stranger", 32,
			[]load{{strangers, "attacker", 4200}},
			strangers,
			latency,
		},
		{"4,200 strangers from one address, a known login", 32, []load{{strangers, "attacker", 4200}}, known, 0},
		{"4,200 strangers from one address, few slots", 4, []load{{strangers, "attacker", 4200}}, strangers, latency},
		{
			"4,200 strangers from one address, one slot", 1,
			[]load{{strangers, "attacker", 4200}},
			strangers,
			2 * latency,
		},
		{
			"1,000 strangers from each of ten addresses, another stranger", 32, crowd(strangers, 10, 1000), strangers,
			latency,
		},
		{"4,200 strangers from as many addresses, a known login", 32, spread(strangers, 4200), known, 0},
		{"4,200 strangers from as many addresses, a subscription", 32, spread(strangers, 4200), subscriptions, 0},
		{"4,200 strangers from as many addresses, a recheck", 32, spread(strangers, 4200), rechecks, 0},
		{
			"one user's 95 connections subscribe, another's subscription", 32,
			[]load{{subscriptions, "busy", 95 * 8}},
			subscriptions, latency,
		},
		{
			"one user's 95 connections subscribe, another's handshake", 32,
			[]load{{subscriptions, "busy", 95 * 8}},
			known, 0,
		},
		{"a round of rechecks, a subscription", 32, spread(rechecks, 1000), subscriptions, 0},
		{"everything at once, a known login", 32, append(spread(strangers, 1000),
			append(spread(rechecks, 1000), load{subscriptions, "busy", 760},
				load{known, "busy", 95})...), known, latency},
		{
			"everything at once, one slot, a known login", 1,
			append(spread(strangers, 100), append(spread(rechecks, 100),
				load{subscriptions, "busy", 100})...), known, 4 * latency,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := fairqueue.New(c.slots, classes()...)
				if waited := measureWait(t, q, latency, c.loads, c.class, "other"); waited > c.most {
					t.Errorf("waited %v, want at most %v", waited, c.most)
				}
			})
		})
	}
}

// While every class has work, each gets its share of the slots. A class alone gets all but one slot per other class.
func TestSlotsAreSharedByWeight(t *testing.T) {
	for _, c := range []struct {
		name  string
		slots int
		busy  []int
		want  []int
	}{
		{"all", 32, []int{known, strangers, subscriptions, rechecks}, []int{12, 4, 8, 8}},
		{"two", 32, []int{known, strangers}, []int{22, 8, 0, 0}}, // one is reserved for each of the idle classes
		{"one", 32, []int{rechecks}, []int{0, 0, 0, 29}},
		{"one, of few", 8, []int{strangers}, []int{0, 8, 0, 0}},
		{"all, of few", 8, []int{known, strangers, subscriptions, rechecks}, []int{3, 1, 2, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := fairqueue.New(c.slots, classes()...)
				ctx, cancel := context.WithCancel(t.Context())
				var mu sync.Mutex
				inside := make([]int, 4)
				var all sync.WaitGroup
				for _, class := range c.busy {
					for i := range 100 {
						all.Go(func() {
							for ctx.Err() == nil {
								if q.Acquire(ctx, class, fmt.Sprint(i%7)) != nil {
									return
								}
								mu.Lock()
								inside[class]++
								mu.Unlock()
								time.Sleep(time.Second)
								mu.Lock()
								inside[class]--
								mu.Unlock()
								q.Release(class)
							}
						})
					}
				}
				time.Sleep(30*time.Second + time.Millisecond) // between two rounds
				mu.Lock()
				if !slices.Equal(inside, c.want) {
					t.Errorf("slots in use: %d, want %d", inside, c.want)
				}
				mu.Unlock()
				cancel()
				all.Wait()
			})
		})
	}
}

func TestFullQueueRejectsOrEvicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := fairqueue.New(1, fairqueue.Class{Weight: 1, MaxPerKey: 2, MaxQueued: 3, Timeout: time.Second})
		if err := q.Acquire(t.Context(), 0, "a"); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 10)
		for _, key := range []string{"a", "a", "b"} {
			go func() { ended <- q.Acquire(t.Context(), 0, key) }()
		}
		synctest.Wait()
		// Both a's line and the class are full, and b's line would become as long as a's.
		for _, key := range []string{"a", "b"} {
			if err := q.Acquire(t.Context(), 0, key); !errors.Is(err, fairqueue.ErrFull) {
				t.Errorf("Acquire for %s: %v, want ErrFull", key, err)
			}
		}
		began := time.Now()
		go func() { ended <- q.Acquire(t.Context(), 0, "c") }() // takes the place of a's second caller
		synctest.Wait()
		if err := <-ended; !errors.Is(err, fairqueue.ErrFull) || time.Since(began) > 0 {
			t.Errorf("%v after %v, want one caller evicted at once", err, time.Since(began))
		}
		if err := q.Acquire(t.Context(), 0, "d"); !errors.Is(err, fairqueue.ErrFull) {
			t.Errorf("Acquire for d: %v, want ErrFull: no line is longer", err)
		}
		for range 3 {
			if err := <-ended; !errors.Is(err, fairqueue.ErrFull) {
				t.Errorf("%v, want ErrFull after the timeout", err)
			}
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("callers timed out after %v, want 1s", took)
		}
		if n := q.Queued(); n[0] != 0 {
			t.Errorf("%d callers queued, want none", n[0])
		}
		q.Release(0)
		if err := q.Acquire(t.Context(), 0, "c"); err != nil {
			t.Error(err)
		}
	})
}

// A canceled caller frees its place, and a slot that was granted at the same moment.
func TestCanceledCallerFreesItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := fairqueue.New(1, fairqueue.Class{Weight: 1, MaxPerKey: 10, MaxQueued: 10, Timeout: time.Minute})
		if err := q.Acquire(t.Context(), 0, "a"); err != nil {
			t.Fatal(err)
		}
		canceled, cancel := context.WithCancel(t.Context())
		left, stayed := make(chan error), make(chan error)
		go func() { left <- q.Acquire(canceled, 0, "a") }()
		synctest.Wait()
		go func() { stayed <- q.Acquire(t.Context(), 0, "a") }()
		synctest.Wait()
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("canceled caller: %v", err)
		}
		q.Release(0)
		if err := <-stayed; err != nil {
			t.Errorf("waiting caller: %v", err)
		}
		q.Release(0)
		if err := q.Acquire(canceled, 0, "a"); !errors.Is(err, context.Canceled) {
			t.Errorf("caller with a canceled context: %v", err)
		}
	})
}

// Under random work, slots are neither exceeded nor lost, and callers of one key keep their order.
func TestRandomWorkKeepsInvariants(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			slots := 1 + r.IntN(20)
			q := fairqueue.New(slots, classes()...)
			type entry struct {
				class, number int
				key           string
				at            time.Time
			}
			var mu sync.Mutex
			var inside int
			var granted []entry
			var all sync.WaitGroup
			numbers := map[string]int{}
			for range 400 {
				class, key := r.IntN(4), fmt.Sprint(r.IntN(1+r.IntN(12)))
				hold, timeout := time.Duration(r.IntN(50)), time.Duration(1+r.IntN(5000))
				cancels := r.IntN(4) == 0
				name := fmt.Sprint(class, key)
				number := numbers[name]
				numbers[name]++
				all.Go(func() {
					ctx := t.Context()
					if cancels {
						limited, cancel := context.WithTimeout(ctx, timeout*time.Millisecond)
						defer cancel()
						ctx = limited
					}
					if err := q.Acquire(ctx, class, key); err != nil {
						return
					}
					mu.Lock()
					if inside++; inside > slots {
						t.Errorf("seed %d: %d of %d slots in use", seed, inside, slots)
					}
					granted = append(granted, entry{class, number, key, time.Now()})
					mu.Unlock()
					time.Sleep(hold * time.Millisecond)
					mu.Lock()
					inside--
					mu.Unlock()
					q.Release(class)
				})
				synctest.Wait() // callers queue in the order of their numbers
				if r.IntN(8) == 0 {
					time.Sleep(time.Duration(r.IntN(30)) * time.Millisecond)
				}
			}
			all.Wait()
			if inside != 0 || slices.Max(q.Queued()) != 0 {
				t.Errorf("seed %d: %d slots in use, %d callers queued, want none", seed, inside, q.Queued())
			}
			last := map[string]entry{}
			for _, e := range granted {
				name := fmt.Sprint(e.class, e.key)
				if before, ok := last[name]; ok && before.number > e.number && before.at.Before(e.at) {
					t.Errorf("seed %d: class %d, key %s: %d after %d", seed, e.class, e.key, e.number, before.number)
				}
				last[name] = e
			}
			for range slots { // every slot is available again
				if q.Acquire(t.Context(), known, "end") != nil && slots < 16 {
					t.Errorf("seed %d: a slot is lost", seed)
				}
			}
		})
	}
}

// The keys of a class take turns, however many callers each has.
func TestKeysTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := fairqueue.New(1, fairqueue.Class{Weight: 1, MaxPerKey: 100, MaxQueued: 1000, Timeout: time.Minute})
		if err := q.Acquire(t.Context(), 0, "first"); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var order []string
		var all sync.WaitGroup
		for _, l := range []load{{0, "a", 6}, {0, "b", 2}, {0, "c", 3}} {
			for range l.count {
				all.Go(func() {
					if err := q.Acquire(t.Context(), 0, l.key); err != nil {
						t.Error(err)
					}
					mu.Lock()
					order = append(order, l.key)
					mu.Unlock()
					time.Sleep(time.Millisecond)
					q.Release(0)
				})
				synctest.Wait()
			}
		}
		q.Release(0)
		all.Wait()
		if want := []string{"a", "b", "c", "a", "b", "c", "a", "c", "a", "a", "a"}; !slices.Equal(order, want) {
			t.Errorf("%q, want %q", order, want)
		}
	})
}
