//go:build !race

package plugins

import "time"

// testLimits are the limits of a compiler for a module that it rejects or accepts.
func testLimits(bool) Limits { return Limits{CPU: time.Second, Memory: 192 << 20} }
