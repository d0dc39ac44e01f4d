package cluster_test

import (
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/relay/internal/layertest"
)

func TestClaims(t *testing.T) {
	c := peers.StartRedisCluster(t, 3, 0)
	s := settings(c.Addresses()[0])
	a, _ := start(t, s)
	b, _ := start(t, s)
	layertest.TestClaims(t, a, b)
}
