package plugins

import "time"

// epoch is the zero of ticks.
var epoch = time.Now()

// ticks returns t in nanoseconds since the process started. Such a time fits into an atomic, and setting the wall
// clock does not move it.
func ticks(t time.Time) int64 { return int64(t.Sub(epoch)) }
