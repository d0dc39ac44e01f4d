//go:build race

package plugins

import "time"

// testLimits are the limits of a compiler in tests: the race detector multiplies what a compiler takes.
var testLimits = Limits{CPU: 5 * time.Second, Memory: 1 << 30}
