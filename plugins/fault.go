package plugins

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
)

// engineFault returns the error for a panic in the engine, with the innermost source lines of the stack. Such a panic
// is a defect of the engine or of this package, not of the module, and the stack is all that a bug report can show.
// Call it from the deferred function that recovers.
func engineFault(panicked any) error {
	const maxPlaces = 5
	var pcs [32]uintptr
	var places []string
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for more := true; more && len(places) < maxPlaces; {
		var f runtime.Frame
		if f, more = frames.Next(); !strings.HasPrefix(f.Function, "runtime.") {
			places = append(places, fmt.Sprintf("%s:%d", filepath.Base(f.File), f.Line))
		}
	}
	return fmt.Errorf("WebAssembly engine panicked: %v (at %s)", panicked, strings.Join(places, ", "))
}
