//go:build !unix

package node

import "time"

func FileLimit() uint64 { return 0 }

func CPUTime() time.Duration { return 0 }
