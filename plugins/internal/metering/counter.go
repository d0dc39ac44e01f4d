package metering

const (
	// Unit is a unit of fuel in the counter's finer measure: 64 simple instructions.
	Unit = 64
	// SliceUnits bounds the units that a module executes between two scheduling points.
	SliceUnits = 1500
	// RefillUnits is the most that the host may put into the counter for a slice. The rest of SliceUnits covers what is
	// executed after a check: a bulk operation of 128 units, and the code of a function and of its caller up to
	// their next checks.
	RefillUnits = SliceUnits - (chunkBytes>>bytesShift + 1) - 2*(maxUnchecked+2)
	// StackBytes is the size of the host's stack that a call may take.
	StackBytes = 16 * maxStack

	maxStack        = 1 << 20 // in parts of 16 bytes
	maxFrame        = 1 << 21 // beyond the whole stack, and small enough for the sign bit
	maxCounterUnits = 1 << 32

	// The counter holds 64ths of a unit in its upper 40 bits, and the free parts of the stack in its lower 24 bits. Both
	// are signed. If the stack overflows, it takes one 64th from the fuel, which no longer matters.
	stackBits = 24
	unitShift = stackBits + 6
	unit      = 1 << unitShift
	signs     = -1<<63 | 1<<(stackBits-1)
)

// Counter is the value of [CounterGlobal].
type Counter uint64

// NewCounter returns the counter for the start of a call, with the whole stack free and fuel in 64ths of a unit.
func NewCounter(fuel int64) Counter { return Counter(fuel<<stackBits | maxStack) }

// Fuel returns the fuel in 64ths of a unit. It is negative when the slice is spent.
func (c Counter) Fuel() int64 { return int64(c) >> stackBits }

// WithFuel returns the counter with other fuel and the same stack.
func (c Counter) WithFuel(fuel int64) Counter {
	return Counter(fuel<<stackBits) | c&(1<<stackBits-1)
}

// StackFree reports whether the whole stack is free, as it is between calls.
func (c Counter) StackFree() bool { return c&(1<<stackBits-1) == maxStack }

// StackOverflow reports whether the call has taken more than StackBytes of the host's stack.
func (c Counter) StackOverflow() bool { return c&(1<<(stackBits-1)) != 0 }
