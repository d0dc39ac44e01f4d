package plugins

import "time"

// epoch is where ticks begins.
var epoch = time.Now()

// ticks is t as nanoseconds since the process began: a time that fits into an atomic and does not move when the wall clock is set.
func ticks(t time.Time) int64 { return int64(t.Sub(epoch)) }
