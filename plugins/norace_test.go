//go:build !race

package plugins

import "time"

// testLimits are the limits of a compiler in tests.
var testLimits = Limits{CPU: time.Second, Memory: 192 << 20}
