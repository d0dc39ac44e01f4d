package plugins

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
)

// spinner returns the Spec of a plugin that loops until its timeout.
func spinner(t testing.TB, timeout time.Duration) Spec {
	return Spec{
		Name: "spinner", Wasm: fixture(t, "spin"), Groups: []string{"spin-*"}, Instances: 1,
		Timeout: timeout, MaxFailures: 1000,
	}
}

func TestLateCallsEnd(t *testing.T) {
	tr, err := Try(context.Background(), Options{Logger: quiet}, spinner(t, 20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	for range 2 { // the second call meets a new instance
		got := tr.Event(Event{Group: "spin-1", Payload: []byte("{}")})
		var f *Failure
		if !errors.As(got.Err, &f) || f.Kind != KindTimeout ||
			f.Error() != "plugin spinner: ev_on_event: timed out after 20ms: an endless loop, or timeout is too short" {
			t.Errorf("the call ends with %v", got.Err)
		}
		if got.Duration < 20*time.Millisecond || got.Duration > maxHostileCall {
			t.Errorf("the call took %v", got.Duration)
		}
	}
}

func TestLateStartsEnd(t *testing.T) {
	spec := Spec{
		Name: "slow", Wasm: fixture(t, "slow_start"), Groups: []string{"*"}, InitFuel: 1 << 40,
		InitTimeout: 2 * time.Millisecond,
	}
	_, err := Try(context.Background(), Options{Logger: quiet}, spec)
	var f *Failure
	if !errors.As(err, &f) || f.Kind != KindTimeout {
		t.Errorf("the start ends with %v", err)
	}
}

// TestRetiredCallsEnd: closing the pipeline does not wait for a long timeout.
func TestRetiredCallsEnd(t *testing.T) {
	p := pipeline(t, Options{}, spinner(t, time.Hour))
	done := make(chan []Output)
	go func() { done <- p.Process(Event{Group: "spin-1", Payload: []byte("{}")}, nil) }()
	for p.Health()[0].Memory == 0 {
		time.Sleep(time.Millisecond)
	}
	start := time.Now()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if out := <-done; len(out) > 0 {
		t.Errorf("the canceled event has outputs: %s", show(out))
	}
	if took := time.Since(start); took > drainTimeout+maxHostileCall {
		t.Errorf("closing took %v", took)
	}
}

// TestCallersEndTheirCalls: a subscription whose client has gone does not run on.
func TestCallersEndTheirCalls(t *testing.T) {
	p := pipeline(t, Options{}, spinner(t, time.Hour))
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	_, err := p.Subscribe(ctx, nil, "spin-1")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the subscription ends with %v", err)
	}
	if n := p.Health()[0].Failures[KindTimeout]; n != 0 {
		t.Errorf("%d calls count as late", n)
	}
}

// TestEmittedEventsShareABudget: one event that causes many dear calls spends a few budgets, not one per call.
func TestEmittedEventsShareABudget(t *testing.T) {
	fan := Spec{
		Name: "fan", Wasm: fixture(t, "fan"), Groups: []string{"ga"}, Grants: Grants, Instances: 1,
		Fuel: 200_000, FuelPerByte: -1, Timeout: time.Minute,
	}
	spin := spinner(t, time.Minute)
	spin.Groups = []string{"gb"}
	spin.Fuel, spin.FuelPerByte = 200_000, -1
	p := pipeline(t, Options{}, fan, spin)
	told := 0
	p.OnWithheld(func(string, Position) { told++ })
	if out := p.Process(Event{Group: "ga", Payload: []byte("{}")}, nil); len(out) > 0 {
		t.Errorf("outputs: %s", show(out))
	}
	fans, spins := p.Health()[0], p.Health()[1]
	if spins.Calls < 4 || spins.Calls > 6 || spins.Fuel > emissionFactor*200_000+10_000 ||
		spins.Failures[KindFuel]+spins.Failures[KindBudget] != spins.Calls || spins.Failures[KindBudget] > 1 ||
		spins.Breaker != "closed" {
		t.Errorf("%d calls, %d units, failures %v, breaker %s", spins.Calls, spins.Fuel, spins.Failures, spins.Breaker)
	}
	if dropped := fans.Failures[KindOutputs]; dropped+spins.Calls != 16 || told != 16 {
		t.Errorf("%d of 16 events are dropped, %d groups told, after %d calls", dropped, told, spins.Calls)
	}
}

// TestGreedyGuests: beside guests that run on every processor and never end, timers fire and collections end. Two of
// the guests miss the caches all the time, so their slices are as long as slices can be.
func TestGreedyGuests(t *testing.T) {
	const bound = time.Second // on a busy machine; the aim is tens of milliseconds. Without slices it would be an hour
	for _, name := range []string{"spin", "hostile/misses"} {
		t.Run(name, func(t *testing.T) {
			p := pipeline(t, Options{}, Spec{
				Name: "greedy", Wasm: fixture(t, name), Groups: []string{"*"}, Instances: 4, Timeout: time.Hour,
			})
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			for i := range 2 * runtime.GOMAXPROCS(0) {
				wg.Go(func() { _, _ = p.Subscribe(ctx, nil, fmt.Sprint(i)) })
			}
			var gap, collection time.Duration
			for range 100 {
				start := time.Now()
				time.Sleep(time.Millisecond)
				gap = max(gap, time.Since(start))
			}
			for range 5 {
				start := time.Now()
				runtime.GC()
				collection = max(collection, time.Since(start))
			}
			cancel()
			wg.Wait()
			t.Logf("longest gap of a timer %v, longest collection %v", gap, collection)
			if gap > bound || collection > bound {
				t.Errorf("a timer waits %v, a collection takes %v", gap, collection)
			}
		})
	}
}

// TestSlicesFitTheirPrice: the fuel of a slice shrinks with the price of fuel, and grows again.
func TestSlicesFitTheirPrice(t *testing.T) {
	l := limits{size: fullSlice}
	for _, step := range []struct {
		took time.Duration
		want int64
	}{
		{10 * time.Microsecond, fullSlice},
		{usualSlice, fullSlice},
		{4 * time.Millisecond, fullSlice / 16},
		{usualSlice, fullSlice / 16},
		{time.Second, minSlice},
		{10 * time.Microsecond, 2 * minSlice},
		{usualSlice, 2 * minSlice},
	} {
		if l.resize(step.took); l.size != step.want {
			t.Errorf("after a slice of %v the next has %d, want %d", step.took, l.size, step.want)
		}
	}
	for range 10 {
		l.resize(0)
	}
	if l.size != fullSlice {
		t.Errorf("a slice of short ones has %d", l.size)
	}
}

// TestInterpretedCallsEnd: the limits hold where the engine can only interpret.
func TestInterpretedCallsEnd(t *testing.T) {
	newRuntimeConfig = wazero.NewRuntimeConfigInterpreter
	t.Cleanup(func() { newRuntimeConfig = wazero.NewRuntimeConfig })
	for _, name := range []string{"loop", "fibonacci", "straight", "bulk_copy", "misses"} {
		tr, err := Try(context.Background(), Options{Logger: quiet}, Spec{
			Name: name, Wasm: fixture(t, "hostile/"+name), Groups: []string{"*"}, Timeout: 20 * time.Millisecond,
			InitTimeout: time.Minute,
		})
		if err != nil {
			t.Fatal(err)
		}
		got := tr.Event(Event{Group: "g1", Payload: []byte("{}")})
		var f *Failure
		if !errors.As(got.Err, &f) || f.Kind != KindTimeout || got.Duration > maxHostileCall {
			t.Errorf("%s ends with %v after %v", name, got.Err, got.Duration)
		}
		tr.Close()
	}
}

// leaving is a context whose caller leaves after the first question.
type leaving struct {
	context.Context
	asked atomic.Int32
}

func (c *leaving) Err() error {
	if c.asked.Add(1) > 1 {
		return context.Canceled
	}
	return nil
}

// TestCallersDoNotResetPlugins: a client that connects and leaves at once does not cost the instance, whose state
// belongs to all groups.
func TestCallersDoNotResetPlugins(t *testing.T) {
	p := pipeline(t, Options{}, Spec{
		Name: "patient", Wasm: fixture(t, "patient"), Groups: []string{"*"}, Instances: 1, Grants: Grants,
		Timeout: time.Minute,
	})
	for n := range uint8(3) {
		_, _ = p.Subscribe(&leaving{Context: context.Background()}, nil, "g1")
		d, err := p.Subscribe(context.Background(), nil, "g1")
		if err != nil || !d.Allow || d.Class != 2*n+2 {
			t.Fatalf("call %d: %+v, %v", 2*n+2, d, err)
		}
	}
}

// TestStoppedProcess: a call does not fail because the process stood still during the call.
func TestStoppedProcess(t *testing.T) {
	for _, timeout := range []time.Duration{20 * time.Millisecond, 300 * time.Millisecond} {
		stop := atomic.Bool{}
		p := pipeline(t, Options{Now: func() time.Time {
			if stop.CompareAndSwap(true, false) {
				time.Sleep(2 * timeout)
			}
			return time.Now()
		}}, Spec{
			Name: "patient", Wasm: fixture(t, "patient"), Groups: []string{"*"}, Instances: 1, Grants: Grants,
			Timeout: timeout,
		})
		stop.Store(true)
		out := p.Process(Event{Group: "g1", Payload: []byte("{}")}, nil)
		if h := p.Health()[0]; len(out) != 1 || stop.Load() || h.Failures[KindTimeout] != 0 {
			t.Errorf("outputs %s, failures %v", show(out), h.Failures)
		}
	}
}
