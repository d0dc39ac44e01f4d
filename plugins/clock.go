package plugins

import "time"

// epoch is the zero of ticks.
var epoch = time.Now()

// ticks returns t in nanoseconds since the process started. Such a time fits into an atomic, and setting the wall
// clock does not move it.
func ticks(t time.Time) int64 { return int64(t.Sub(epoch)) }

// elapsed returns the time since the process started, as ticks. It reads less than time.Now.
func elapsed() int64 { return int64(time.Since(epoch)) }
