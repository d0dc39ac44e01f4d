package relay

import "time"

// epoch is the beginning of Ticks.
// See docs/decisions/hub.md#why-do-compact-times-count-from-the-start-of-the-process
var epoch = time.Now()

// Ticks returns t as nanoseconds since the process began: a time in eight bytes that, unlike Unix time, does not jump
// when the wall clock is set. t must come from [time.Now].
func Ticks(t time.Time) int64 { return int64(t.Sub(epoch)) }

// At is the inverse of [Ticks]. The time has a monotonic clock reading.
func At(ticks int64) time.Time { return epoch.Add(time.Duration(ticks)) }
