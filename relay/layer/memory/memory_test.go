package memory_test

import (
	"testing"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

func TestSuite(t *testing.T) {
	layer := memory.NewLayer()
	relaytest.Run(t, func(testing.TB) relay.Broker { return layer.Broker() })
}
