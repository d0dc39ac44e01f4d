package sse

import (
	"testing"

	"go.uber.org/goleak"
)

// The clock of a server without connections stops within a second; TestHeartbeats waits for that.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction(
		"github.com/edgerelay/edgerelay/relay/transport/sse.(*beats).run"))
}
