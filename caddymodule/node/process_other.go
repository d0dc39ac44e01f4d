//go:build !unix

package node

import "time"

// FileLimit returns 0: the limit is unknown.
func FileLimit() uint64 { return 0 }

// CPUTime returns 0: the time is unknown.
func CPUTime() time.Duration { return 0 }
