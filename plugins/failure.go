package plugins

import "fmt"

// Kind classifies a plugin's failures, for metrics and alerts.
type Kind string

// Kinds of failure.
const (
	KindFuel     Kind = "fuel"     // the budget was spent: an endless loop, a deep recursion, or too small a budget
	KindTrap     Kind = "trap"     // the module trapped: unreachable, out of bounds, division by zero, a panic of its language
	KindRange    Kind = "range"    // a pointer or length outside the memory
	KindTooLarge Kind = "toolarge" // a result or an event beyond its limit
	KindText     Kind = "text"     // a result that is not UTF-8, or not JSON where that is demanded
	KindGuest    Kind = "guest"    // the plugin itself returned an error
	KindResult   Kind = "result"   // a result that the ABI does not know
	KindExit     Kind = "exit"     // proc_exit
	KindStart    Kind = "start"    // an instance could not be started
	KindOutputs  Kind = "outputs"  // emitted events were left out because one event had become too many
)

// countsForBreaker tells whether such a failure counts for the breaker. One by size or by work says something of its own event
// only, or a large event would set the plugin aside for the small ones; one by want of an instance says nothing of the
// event at all.
func (k Kind) countsForBreaker() bool { return k != KindFuel && k != KindTooLarge && k != KindStart }

// kinds orders the counters.
var kinds = [...]Kind{KindFuel, KindTrap, KindRange, KindTooLarge, KindText, KindGuest, KindResult, KindExit, KindStart, KindOutputs}

// Failure is one failed call.
type Failure struct {
	Plugin string
	Kind   Kind
	Call   string // the export that was called
	Err    error

	// intact tells that the guest returned in order, and its instance can go on.
	intact bool
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
	return 1 // a trap
}
