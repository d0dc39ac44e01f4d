package plugins

import "time"

// now returns the plugin's time. It stands still during a call that is recorded, so that a replay has the same.
func (in *instance) now() time.Time {
	if r := in.own.record; r != nil {
		return r.at
	}
	return in.env.now()
}

// epoch is the zero of ticks.
var epoch = time.Now()

// ticks returns t in nanoseconds since the process started. Such a time fits into an atomic, and setting the wall
// clock does not move it.
func ticks(t time.Time) int64 { return int64(t.Sub(epoch)) }

// elapsed returns the time since the process started, as ticks. It reads less than time.Now.
func elapsed() int64 { return int64(time.Since(epoch)) }
