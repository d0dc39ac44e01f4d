//go:build race

package plugins

import "time"

// testLimits are the limits of a compiler for a module that it rejects or accepts. The race detector multiplies the
// processor time and the memory of a compiler.
func testLimits(rejects bool) Limits {
	if rejects {
		return Limits{CPU: time.Second, Memory: 1 << 30}
	}
	return Limits{CPU: time.Minute, Memory: 1 << 30}
}
