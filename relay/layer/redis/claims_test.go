package redis_test

import (
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/relay/internal/layertest"
)

func TestClaims(t *testing.T) {
	server := peers.StartRedis(t)
	a, _ := start(t, settings(server))
	b, _ := start(t, settings(server))
	layertest.TestClaims(t, a, b)
}

func TestClaimsOfAnotherPrefix(t *testing.T) {
	server := peers.StartRedis(t)
	s := settings(server)
	a, _ := start(t, s)
	s.Prefix = "other"
	b, _ := start(t, s)
	layertest.TestClaimsApart(t, a, b)
}
