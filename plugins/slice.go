package plugins

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/edgerelay/edgerelay/plugins/internal/metering"
)

// limits are the fuel and the time of the call in flight. The guest calls [instance.endSlice] whenever it has spent a
// slice of its fuel. That function is Go code, so the scheduler and the garbage collector can stop the guest there.
// See docs/decisions/plugins.md#why-do-guests-run-in-slices
type limits struct {
	budget  int64 // fuel of the call, in 64ths of a unit like all fuel here
	reserve int64 // fuel that is not in the counter
	filled  int64 // fuel in the counter when the host last set or read it; what is missing since then was spent
	spent   int64 // by all calls
	taken   int64 // the part of spent that takeSpentFuel has returned
	mark    int64 // spent, when a call with a shared budget began
	timeout time.Duration
	caller  context.Context // ends the call when it is done; may be nil
	shared  bool            // the call has less fuel or time than its plugin's settings say, see allowance

	// Times are ticks. The clock is not read before the first slice ends, so short calls do not pay for it.
	started   int64 // first reading of the clock, 0 before
	resumed   int64 // when the guest last got the processor
	ran       int64 // how long the guest had run until then
	stood     int64 // how long the whole process seems to have stood still
	lastRead  int64
	stride    int // slices between two readings
	untilRead int // slices before the next reading

	// size is the fuel of a slice, which depends on the price of this guest's fuel. It outlives the call; 0: fullSlice.
	size int64
}

// fullSlice is the fuel of a slice at the usual price.
const fullSlice = metering.RefillUnits * metering.Unit

const (
	// yieldAfter is how long a guest keeps the processor at most while other goroutines are ready.
	yieldAfter = time.Millisecond
	// maxStride is the most slices between two readings of the clock. Each slice reads the clock if slices are long.
	maxStride = 4
	// shortRead and longRead are the times between two readings below and above which the stride changes.
	shortRead, longRead = 20 * time.Microsecond, 200 * time.Microsecond
	// Slices that take longer than longSlice become shorter, and those below half of usualSlice longer.
	usualSlice, longSlice = 250 * time.Microsecond, 500 * time.Microsecond
	// minSlice keeps the cost of ending slices low at any price.
	minSlice = 32 * metering.Unit
	// maxWait bounds the time of a call with the time in which others had the processor, as a multiple of timeout.
	maxWait = 10
	// maxRead is the most time between two readings that counts, but at most a quarter of the timeout. Slices take less:
	// longer times come from a process that was stopped, moved to another machine or denied processors, which is no fault
	// of the guest.
	maxRead = 20 * time.Millisecond
	// cancelAfter is how long a call may run although its caller has gone. A call that ends early costs the instance with
	// its state, so clients that come and go could reset a plugin.
	cancelAfter = 10 * time.Millisecond
)

var (
	errOutOfFuel = errors.New("out of fuel")
	errTimeout   = errors.New("timed out")
)

// begin sets the limits of the next call, or of the calls that start an instance. Fuel is in units.
func (in *instance) begin(fuel int64, timeout time.Duration) {
	l := &in.limits
	l.budget = fuel * metering.Unit
	l.timeout, l.shared, l.caller = timeout, false, nil
	l.started, l.ran, l.stood, l.stride, l.untilRead = 0, 0, 0, 1, 0
	if l.filled > 0 && l.budget >= exactBudget {
		l.reserve = l.budget // the slice of the call before goes on
		return
	}
	l.spend(in.counter)
	if l.size == 0 {
		l.size = fullSlice
	}
	l.filled = min(l.budget, l.size)
	l.reserve = l.budget - l.filled
	in.counter.Set(uint64(metering.NewCounter(l.filled)))
}

// exactBudget is the budget from which on a call may have up to a slice more. Then short calls, which are the most,
// need neither set nor read the counter.
const exactBudget = 64 * metering.RefillUnits * metering.Unit

// spend notes the fuel that was spent since the host last set or read the counter.
func (l *limits) spend(counter api.MutableGlobal) {
	if l.filled != 0 {
		left := metering.Counter(counter.Get()).Fuel()
		l.spent += l.filled - left
		l.filled = left
	}
}

// allowance is the fuel and the time that all calls for the events emitted for one event share, and the number of these
// events. Events that are handed over share it, too, so methods are safe for concurrent use.
// See docs/decisions/plugins.md#why-do-emitted-events-share-a-budget
type allowance struct {
	fuel      atomic.Int64 // 64ths of a unit
	time      atomic.Int64 // nanoseconds
	emissions atomic.Int32
}

// emissionFactor is how many times the budgets of an event's own route the events emitted for it may spend.
const emissionFactor = 4

// emissionBudget returns the budget of the events emitted for the traversal's event.
func (t *traversal) emissionBudget(ev *Event) *allowance {
	if t.budget == nil {
		t.budget = &allowance{}
		t.budget.emissions.Store(maxEmissions)
		for i := range t.origin.steps {
			if m := t.origin.steps[i].serving(ev.Group); m != nil {
				input := len(ev.Group) + len(ev.Payload)
				t.budget.fuel.Add(emissionFactor * m.spec.budget(input) * metering.Unit)
				t.budget.time.Add(int64(emissionFactor * m.spec.timeLimit(input)))
			}
		}
	}
	return t.budget
}

func (a *allowance) spent() bool {
	return a.fuel.Load() <= 0 || a.time.Load() <= 0 || a.emissions.Load() <= 0
}

// share limits the call to what is left of a shared budget, and begins to measure the time.
func (in *instance) share(a *allowance) {
	l := &in.limits
	l.spend(in.counter)
	l.mark = l.spent
	if over := l.budget - max(0, a.fuel.Load()); over > 0 {
		l.shared = true
		l.budget -= over
		l.reserve -= over
	}
	if left := time.Duration(a.time.Load()); l.timeout > left {
		l.shared = true
		l.timeout = max(0, left)
	}
	now := elapsed()
	l.started, l.resumed, l.lastRead = now, now, now
}

// settle takes the time and fuel of the call from a shared budget.
func (in *instance) settle(a *allowance) {
	l := &in.limits
	l.spend(in.counter)
	a.fuel.Add(l.mark - l.spent)
	a.time.Add(l.resumed - l.ran - elapsed())
}

// takeSpentFuel returns the fuel that the calls since its last call have spent, in units.
func (in *instance) takeSpentFuel() int64 {
	l := &in.limits
	l.spend(in.counter)
	units := (l.spent - l.taken) / metering.Unit
	l.taken += units * metering.Unit
	return units
}

// charge takes fuel for the work of a host function, in units.
func (in *instance) charge(units int64) {
	c := metering.Counter(in.counter.Get())
	fuel := c.Fuel() - units*metering.Unit
	in.counter.Set(uint64(c.WithFuel(fuel)))
	if fuel < 0 {
		in.endSlice()
	}
}

// endSlice ends the call if its fuel or time is spent or its result is no longer wanted. Otherwise it lets other
// goroutines run, and gives the guest the next slice.
func (in *instance) endSlice() {
	l := &in.limits
	c := metering.Counter(in.counter.Get())
	if c.StackOverflow() {
		in.abort(KindFuel, "stack overflow: the module recurses too deeply")
	}
	l.spent += l.filled - c.Fuel()
	l.filled = c.Fuel()
	left := l.reserve + c.Fuel()
	if left < 0 {
		in.abort(KindFuel, "%w", errOutOfFuel)
	}
	if l.untilRead--; l.untilRead < 0 {
		in.checkTime()
	}
	l.filled = min(left, l.size)
	l.reserve = left - l.filled
	in.counter.Set(uint64(c.WithFuel(l.filled)))
}

// checkTime reads the clock, ends the call if it is late or no longer wanted, and yields if the guest has run for long.
func (in *instance) checkTime() {
	l := &in.limits
	now := elapsed()
	if l.started == 0 {
		l.started, l.resumed, l.lastRead = now, now, now
	}
	since := time.Duration(now - l.lastRead)
	if now != l.started {
		l.resize(since / time.Duration(l.stride))
	}
	switch {
	case since < shortRead:
		l.stride = min(2*l.stride, maxStride)
	case since > longRead:
		l.stride = 1
		if longest := max(longRead, min(maxRead, l.timeout/4)); since > longest {
			l.stood += int64(since - longest)
			l.resumed += int64(since - longest)
		}
	}
	l.lastRead, l.untilRead = now, l.stride-1

	running := now - l.resumed
	if l.ran+running > int64(l.timeout) || now-l.started-l.stood > maxWait*int64(l.timeout) {
		in.abort(KindTimeout, "%w", errTimeout)
	}
	if in.m.canceled.Load() {
		in.cancel(errReplaced)
	}
	if l.caller != nil && (!in.started() || l.ran+running >= int64(cancelAfter)) && l.caller.Err() != nil {
		in.cancel(context.Cause(l.caller))
	}
	if running >= int64(yieldAfter) {
		l.ran += running
		if in.slot != nil {
			in.slot.noteLongCall(time.Duration(now - l.started))
		}
		runtime.Gosched()
		l.resumed = elapsed()
		l.lastRead = l.resumed
	}
}

// resize adapts the fuel of a slice to the time that the last slices took: code that mostly waits for memory holds the
// scheduler and the garbage collector up no longer than other code.
func (l *limits) resize(took time.Duration) {
	switch {
	case took > longSlice:
		l.size = max(minSlice, l.size*int64(usualSlice)/int64(took))
	case took < usualSlice/2:
		l.size = min(2*l.size, fullSlice)
	}
}

// longSince returns the first reading of the clock if the call is long by the last reading, else 0.
func (l *limits) longSince() int64 {
	if l.started == 0 || l.lastRead-l.started < int64(longCall) {
		return 0
	}
	return l.started
}

// cancel ends the call from inside a host function. The module has not failed: the caller must not count the call.
func (in *instance) cancel(cause error) {
	in.fault = &Failure{Kind: KindTimeout, Err: cause, canceled: true}
	panic(cause)
}

// describe replaces the error of a spent limit by a text with the limit and the remedy.
func (in *instance) describe(f *Failure) {
	l := &in.limits
	fuel, timeout := "fuel", "timeout"
	if !in.started() {
		fuel, timeout = "init fuel", "init_timeout"
	}
	outOfFuel, late := errors.Is(f.Err, errOutOfFuel), errors.Is(f.Err, errTimeout)
	switch {
	case l.shared && (outOfFuel || late):
		f.Kind = KindBudget
		f.Err = fmt.Errorf("the events emitted for one event have spent %d times the fuel or the time of its plugins; "+
			"emit fewer events, or raise fuel and timeout", emissionFactor)
	case outOfFuel:
		f.Err = fmt.Errorf("out of fuel after %d units: an endless loop or recursion, or too little %s",
			l.budget/metering.Unit, fuel)
	case late && l.ran+l.lastRead-l.resumed <= int64(l.timeout):
		f.Err = fmt.Errorf("timed out: the call had to wait for the processor, and took more than %d times its %s of %v; "+
			"run less on this machine, or raise %s", maxWait, timeout, l.timeout, timeout)
	case late:
		f.Err = fmt.Errorf("timed out after %v: an endless loop, or %s is too short", l.timeout, timeout)
	}
}

// buildSliceHost defines the function that guests call at the end of a slice.
func buildSliceHost(ctx context.Context, r wazero.Runtime) error {
	_, err := r.NewHostModuleBuilder(metering.HostModule).
		NewFunctionBuilder().
		WithGoFunction(api.GoFunc(func(ctx context.Context, _ []uint64) { ctx.(*instance).endSlice() }), nil, nil).
		Export(metering.SliceFunction).
		Instantiate(ctx)
	return err
}
