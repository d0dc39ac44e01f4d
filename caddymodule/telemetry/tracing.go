package telemetry

import (
	"context"
	"net/http"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/contrib/propagators/autoprop"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/edgerelay/edgerelay/relay"
)

// scope names the relay among what makes spans.
const scope = "github.com/edgerelay/edgerelay"

// startSpan begins a child of the span that Caddy's directive tracing has put into a request's context. Where there is none, nothing
// happens and the span is one that does nothing.
func startSpan(ctx context.Context, name string, attrs ...attribute.KeyValue) (context.Context, trace.Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.SpanContext().IsValid() {
		return ctx, parent
	}
	return childSpan(ctx, parent, name, attrs)
}

//go:noinline
func childSpan(ctx context.Context, parent trace.Span, name string, attrs []attribute.KeyValue) (context.Context, trace.Span) {
	return parent.TracerProvider().Tracer(scope).Start(ctx, name, trace.WithAttributes(attrs...))
}

// startUpgrade begins the span of a handshake, and returns the request with it.
func StartUpgrade(r *http.Request) (*http.Request, trace.Span) {
	ctx, span := startSpan(r.Context(), "edgerelay.upgrade")
	if ctx != r.Context() {
		r = r.WithContext(ctx)
	}
	return r, span
}

// authenticate asks who sends the handshake r, in a span of its own if the handshake has one.
func Authenticate(a relay.Authorizer, r *http.Request) (relay.Identity, error) {
	if !trace.SpanContextFromContext(r.Context()).IsValid() {
		return a.Authenticate(r)
	}
	return authenticateTraced(a, r)
}

func authenticateTraced(a relay.Authorizer, r *http.Request) (relay.Identity, error) {
	ctx, span := startSpan(r.Context(), "edgerelay.authenticate")
	defer span.End()
	id, err := a.Authenticate(r.WithContext(ctx))
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
		return id, err
	}
	span.SetAttributes(UserAttributes(id)...)
	return id, nil
}

func UserAttributes(id relay.Identity) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("enduser.id", id.Key), attribute.String("edgerelay.user", id.Name), attribute.String("edgerelay.user_kind", id.Kind.String()),
	}
}

// traceMessages returns what makes the spans of a client's subscriptions, nil if its handshake is not traced: children of the
// handshake's, which ends long before them.
func TraceMessages(upgrade trace.Span, id relay.Identity) func(context.Context, int) (context.Context, func(denied, failed int)) {
	if !upgrade.IsRecording() {
		return nil
	}
	parent, tracer := upgrade.SpanContext(), upgrade.TracerProvider().Tracer(scope)
	return func(ctx context.Context, groups int) (context.Context, func(denied, failed int)) {
		ctx, span := tracer.Start(trace.ContextWithSpanContext(ctx, parent), "edgerelay.authorize",
			trace.WithAttributes(append(UserAttributes(id), attribute.Int("edgerelay.groups", groups))...))
		return ctx, func(denied, failed int) {
			span.SetAttributes(attribute.Int("edgerelay.denied", denied))
			if failed > 0 {
				span.SetStatus(codes.Error, "it could not be found out whether the user may see a group")
			}
			span.End()
		}
	}
}

// tracedTransport passes the trace of whoever asks on to AWX's API.
type tracedTransport struct {
	plain, traced http.RoundTripper
}

func NewTracedTransport(plain http.RoundTripper) http.RoundTripper {
	return tracedTransport{plain, otelhttp.NewTransport(plain, otelhttp.WithPropagators(autoprop.NewTextMapPropagator()))}
}

// RoundTrip implements [http.RoundTripper].
func (t tracedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if trace.SpanContextFromContext(r.Context()).IsValid() {
		return t.traced.RoundTrip(r)
	}
	return t.plain.RoundTrip(r)
}

// CloseIdleConnections is what [http.Client.CloseIdleConnections] looks for.
func (t tracedTransport) CloseIdleConnections() {
	if c, ok := t.plain.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
