package netpoll

import (
	"testing"

	"go.uber.org/goleak"
)

// The poller lives as long as the process, and so do a few readers.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/edgerelay/edgerelay/relay/transport/netpoll.(*epoll).run"),
		goleak.IgnoreTopFunction("github.com/edgerelay/edgerelay/relay/transport/netpoll.(*Poller).read"))
}
