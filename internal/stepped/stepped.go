// Package stepped makes times as time.Now returns them after the wall clock was set, for tests: the clock of a
// machine cannot be moved under them.
package stepped

import (
	"time"
	"unsafe"
)

// By returns t, which must come from time.Now, with the wall clock moved by whole seconds and the monotonic one as it was.
func By(t time.Time, step time.Duration) time.Time {
	// The head of time.Time: with a monotonic reading, bits 30 to 62 are seconds of the wall clock.
	const monotonic, second = 1 << 63, 30
	wall := (*uint64)(unsafe.Pointer(&t))
	if *wall&monotonic == 0 {
		panic("this time has no monotonic reading")
	}
	*wall += uint64(step/time.Second) << second
	return t
}
