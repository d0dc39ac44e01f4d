package plugins

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
)

// engineFault is the error for a panic in the engine, with the places it passed through, the innermost first: it is a fault of the engine
// or of ours, not of the module, and whoever reports it has nothing else to show. Call it from the deferred function that recovers.
func engineFault(panicked any) error {
	const calls = 5
	var counters [32]uintptr
	var places []string
	frames := runtime.CallersFrames(counters[:runtime.Callers(3, counters[:])])
	for more := true; more && len(places) < calls; {
		var f runtime.Frame
		if f, more = frames.Next(); !strings.HasPrefix(f.Function, "runtime.") {
			places = append(places, fmt.Sprintf("%s:%d", filepath.Base(f.File), f.Line))
		}
	}
	return fmt.Errorf("the engine failed: %v (at %s)", panicked, strings.Join(places, ", "))
}
