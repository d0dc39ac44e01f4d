package plugins

import "fmt"

// Kind classifies a plugin's failures, for metrics and alerts.
type Kind string

// Kinds of failure.
const (
	KindFuel     Kind = "fuel"     // the budget was spent: an endless loop, a deep recursion, or a budget too small
	KindTimeout  Kind = "timeout"  // the call took longer than its timeout
	KindBudget   Kind = "budget"   // the events emitted for an event spent their common budget
	KindTrap     Kind = "trap"     // a trap: unreachable, out of bounds, division by zero, a language's panic
	KindRange    Kind = "range"    // a pointer or length outside the memory
	KindTooLarge Kind = "toolarge" // a result or an event beyond its limit
	KindText     Kind = "text"     // a result that is not UTF-8, or not JSON where the plugin's settings require JSON
	KindGuest    Kind = "guest"    // the plugin returned an error
	KindResult   Kind = "result"   // a result that the ABI does not define
	KindExit     Kind = "exit"     // the plugin called proc_exit
	KindStart    Kind = "start"    // no instance could be started
	KindOutputs  Kind = "outputs"  // emitted events were dropped, because an event had become too many
)

// countsForBreaker reports whether a failure of this kind counts for the circuit breaker. Failures by size, by fuel or
// by an event's common budget concern that event only: a large event must not suspend calls for small ones. A failure
// to start an instance says nothing about the event.
func (k Kind) countsForBreaker() bool {
	switch k {
	case KindFuel, KindTooLarge, KindStart, KindBudget:
		return false
	}
	return true
}

// kinds lists all kinds, in the order of tally.failures.
var kinds = [...]Kind{
	KindFuel, KindTrap, KindRange, KindTooLarge, KindText, KindGuest, KindResult, KindExit, KindStart, KindOutputs,
	KindTimeout, KindBudget,
}

// Failure is a failed call.
type Failure struct {
	Plugin string
	Kind   Kind
	Call   string // the export that was called
	Err    error

	// intact tells that the guest returned normally, so its instance stays in use.
	intact bool
	// canceled tells that the call was ended because no caller waits for it: the plugin has not failed. Err is
	// errReplaced or the cause of the caller's context.
	canceled bool
}

// Error names the plugin, the call and the cause.
func (f *Failure) Error() string {
	return fmt.Sprintf("plugin %s: %s: %v", f.Plugin, f.Call, f.Err)
}

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

func (k Kind) index() int {
	for i, o := range kinds {
		if o == k {
			return i
		}
	}
	return 1 // KindTrap
}
