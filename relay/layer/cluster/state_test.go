package cluster_test

import (
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/relay/state/statetest"
)

// The shared state of functions is in one slot for each plugin, and moves with it.
func TestSharedStateOnACluster(t *testing.T) {
	c := peers.StartRedisCluster(t, 3, 0)
	b, _ := start(t, settings(c.Addresses()...))
	compared := statetest.New(t, b)
	compared.Run(2000)
	key := b.KeyPrefix(b.Shard("game"), "state") + "game:bytes"
	slot := c.Slot(key)
	c.Move(slot, (c.Owner(slot)+1)%len(c.Masters))
	compared.Await()
	compared.Run(2000)
}
