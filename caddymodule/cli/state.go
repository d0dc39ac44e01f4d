package cli

import (
	"fmt"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
)

// stateLine describes the shared state of plugins.
func stateLine(s *admin.StateStatus) string {
	text := fmt.Sprintf("in %s; alarms: %d fired, %d failed, %d dropped, %d moved",
		s.Kind, s.Fired, s.Failed, s.Dropped, s.Moved)
	if s.Trouble != "" {
		text += "; UNAVAILABLE: " + s.Trouble
	}
	return text
}
