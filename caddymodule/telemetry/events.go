package telemetry

import (
	"context"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// EventTracer makes spans of sampled events. An event belongs to no request, so its span goes to the provider of the
// last traced handshake. Its methods are safe for concurrent use.
// See docs/decisions/operations.md#why-do-event-spans-use-the-provider-of-the-last-traced-handshake
type EventTracer struct {
	provider atomic.Pointer[trace.TracerProvider]
}

// Follow makes the provider of a handshake's span current, if the handshake is traced.
func (t *EventTracer) Follow(span trace.Span) {
	if !span.SpanContext().IsValid() {
		return
	}
	provider := span.TracerProvider()
	if now := t.provider.Load(); now == nil || *now != provider {
		t.provider.Store(&provider)
	}
}

// Report makes a span of an event's journey. It does nothing until a handshake has been traced.
func (t *EventTracer) Report(j hub.Journey) {
	provider := t.provider.Load()
	if provider == nil {
		return
	}
	begin, end := j.Sent, j.Written
	if begin.IsZero() || begin.After(j.Arrived) { // unknown, or the emitter's clock is ahead
		begin = j.Arrived
	}
	if end.IsZero() {
		end = j.FannedOut
	}
	if end.IsZero() {
		end = j.Arrived
	}
	_, span := (*provider).Tracer(scope).Start(context.Background(), "edgerelay.event",
		trace.WithTimestamp(begin), trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
			attribute.String("messaging.system", "channels_redis"),
			attribute.String("messaging.destination.name", j.Group),
			attribute.Int("messaging.message.body.size", j.Bytes),
			attribute.String("edgerelay.source", j.Source.String()),
			attribute.Int("edgerelay.clients", j.Clients),
			attribute.String("edgerelay.outcome", j.Outcome),
		))
	span.AddEvent("arrived", trace.WithTimestamp(j.Arrived))
	if !j.FannedOut.IsZero() {
		span.AddEvent("fanned out", trace.WithTimestamp(j.FannedOut))
	}
	span.End(trace.WithTimestamp(end))
}

// EventTracerOf returns the event tracer of a node, which survives reloads.
func EventTracerOf(n *node.Node) *EventTracer {
	type key struct{}
	return n.Extension(key{}, func() any { return new(EventTracer) }).(*EventTracer)
}
