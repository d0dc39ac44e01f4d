package redis_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
)

// countSink counts events.
type countSink struct{ events atomic.Int64 }

// Deliver implements [relay.Sink].
func (s *countSink) Deliver(events []relay.Event) { s.events.Add(int64(len(events))) }

// BenchmarkPublish publishes events of 300 bytes to a group with this node as its member, and waits for their delivery.
func BenchmarkPublish(b *testing.B) {
	s := settings(peers.StartRedis(b))
	s.Capacity = 1 << 30
	broker, sink := newBroker(b, s), &countSink{}
	run(b, broker, sink, "job_events-1")
	text := make([]byte, 300)
	for i := range text {
		text[i] = 'x'
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := broker.Publish(context.Background(), "job_events-1", text); err != nil {
			b.Fatal(err)
		}
	}
	testkit.Eventually(b, "delivery", func() bool { return sink.events.Load() >= int64(b.N) })
}
