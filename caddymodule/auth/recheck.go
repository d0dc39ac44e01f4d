package auth

import (
	"fmt"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/relay"
)

// defaultRecheckGrace applies unless twice the recheck interval is longer.
const defaultRecheckGrace = 5 * time.Minute

// recheckTimes returns the recheck interval, and the grace time of connections without an answer from the authority.
// kind names the module in errors.
func recheckTimes(
	kind string, recheck settings.DurationOrOff, graceSetting *settings.DurationOrOff,
) (every, grace time.Duration, err error) {
	every = time.Minute
	if recheck != 0 {
		every = max(time.Duration(recheck), 0)
	}
	switch {
	case graceSetting == nil:
		grace = max(defaultRecheckGrace, 2*every)
	case *graceSetting < 0:
		grace = relay.NoGrace
	default:
		if grace = time.Duration(*graceSetting); grace > 0 && grace < every {
			return 0, 0, fmt.Errorf("%s: recheck_grace %s is shorter than recheck %s; set a longer time, "+
				"or 0 to close a websocket at the first recheck without an answer", kind, grace, every)
		}
	}
	return every, grace, nil
}
