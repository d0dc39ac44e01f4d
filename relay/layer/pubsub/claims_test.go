package pubsub_test

import (
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/relay/internal/layertest"
	"github.com/edgerelay/edgerelay/relay/layer/pubsub"
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

// Nodes share claims although their URLs name different databases, as they share channels.
func TestClaims(t *testing.T) {
	server := peers.StartRedis(t)
	s := settings(server)
	a := newBroker(t, s)
	s.URLs = []string{strings.TrimSuffix(server.URL, "/0") + "/3"}
	b := newBroker(t, s)
	for _, broker := range []*pubsub.Broker{a, b} {
		if err := broker.Start(&relaytest.Sink{}); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = broker.Close(t.Context()) }()
	}
	layertest.TestClaims(t, a, b)
}
