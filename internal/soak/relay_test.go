package soak

import (
	"fmt"
	"strings"
)

// caddyfile returns a relay's Caddyfile with further lines in its option edgerelay.
func caddyfile(redisURL, more string) string {
	return fmt.Sprintf(`{
	admin {$ADMIN}
	skip_install_trust
	metrics
	log {
		level WARN
	}
	edgerelay {
		channel_layer redis {
			url %s
			capacity 10000
			group_expiry 157784760s
		}
		auth none
%s
	}
}
{$SITE} {
	edgerelay_health
	edgerelay
	respond ok
}
`, redisURL, strings.TrimRight(more, "\n"))
}

// text is an event in AWX's form. The plugin quiet drops quiet events.
func text(group string, n int, quiet bool) []byte {
	event := "runner_on_failed"
	if quiet {
		event = "runner_on_ok"
	}
	filler := "x"
	if n%50 == 0 { // a long one now and then
		filler = fmt.Sprintf("%06000d", n)
	}
	return fmt.Appendf(nil, `{"n": %d, "group_name": %q, "event": %q, "changed": false, "stdout": %q}`, n, group, event,
		filler)
}
