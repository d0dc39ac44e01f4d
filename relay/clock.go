package relay

import "time"

// epoch is where Ticks begins.
// See docs/decisions/hub.md#why-do-compact-times-count-from-the-start-of-the-process
var epoch = time.Now()

// Ticks is t as nanoseconds since the process began: a point in time in eight bytes which, other than Unix time, does not move when the
// wall clock is set, provided that t comes from [time.Now].
func Ticks(t time.Time) int64 { return int64(t.Sub(epoch)) }

// At is the time of which [Ticks] is ticks. It has a reading of the monotonic clock.
func At(ticks int64) time.Time { return epoch.Add(time.Duration(ticks)) }
