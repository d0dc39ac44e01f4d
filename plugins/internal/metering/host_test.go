package metering_test

import (
	"context"
	"errors"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/edgerelay/edgerelay/plugins/internal/metering"
)

var (
	errSpent    = errors.New("out of fuel")
	errOverflow = errors.New("stack overflow")
)

// host serves the slice function of the modules in a runtime.
type host struct {
	reserve int64 // fuel that is not in the counter, in 64ths of a unit
	refill  int64 // largest slice, in units
	slices  int
	onSlice func(c metering.Counter) // if not nil, sees the counter at each call
}

// newHost defines the slice function in a runtime.
func newHost(t testing.TB, r wazero.Runtime) *host {
	t.Helper()
	h := &host{refill: metering.RefillUnits}
	_, err := r.NewHostModuleBuilder(metering.HostModule).
		NewFunctionBuilder().
		WithGoModuleFunction(api.GoModuleFunc(func(_ context.Context, m api.Module, _ []uint64) { h.slice(m) }), nil, nil).
		Export(metering.SliceFunction).
		Instantiate(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func counterOf(m api.Module) api.MutableGlobal {
	return m.ExportedGlobal(metering.CounterGlobal).(api.MutableGlobal)
}

func (h *host) slice(m api.Module) {
	global := counterOf(m)
	c := metering.Counter(global.Get())
	h.slices++
	if h.onSlice != nil {
		h.onSlice(c)
	}
	if c.StackOverflow() {
		panic(errOverflow)
	}
	left := h.reserve + c.Fuel()
	if left < 0 {
		panic(errSpent)
	}
	refill := min(left, h.refill*metering.Unit)
	h.reserve = left - refill
	global.Set(uint64(c.WithFuel(refill)))
}

// start sets the budget of a call, in units.
func (h *host) start(m api.Module, budget int64) {
	refill := min(budget, h.refill) * metering.Unit
	h.reserve = budget*metering.Unit - refill
	counterOf(m).Set(uint64(metering.NewCounter(refill)))
}

// left returns the fuel that is left, in 64ths of a unit.
func (h *host) left(m api.Module) int64 {
	return h.reserve + metering.Counter(counterOf(m).Get()).Fuel()
}
