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

// scope is the instrumentation scope of the relay's spans.
const scope = "github.com/edgerelay/edgerelay"

// startSpan begins a child of the span that Caddy's directive tracing has put into a request's context. Without such a
// span, it returns the context unchanged and a span without effect.
func startSpan(ctx context.Context, name string, attrs ...attribute.KeyValue) (context.Context, trace.Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.SpanContext().IsValid() {
		return ctx, parent
	}
	return childSpan(ctx, parent, name, attrs)
}

// childSpan is apart from startSpan so that an untraced handshake does not allocate its options.
//
//go:noinline
func childSpan(
	ctx context.Context, parent trace.Span, name string, attrs []attribute.KeyValue,
) (context.Context, trace.Span) {
	return parent.TracerProvider().Tracer(scope).Start(ctx, name, trace.WithAttributes(attrs...))
}

// StartUpgrade begins the span of a handshake. The caller ends the span. The context of the returned request contains
// it.
func StartUpgrade(r *http.Request) (*http.Request, trace.Span) {
	ctx, span := startSpan(r.Context(), "edgerelay.upgrade")
	if ctx != r.Context() {
		r = r.WithContext(ctx)
	}
	return r, span
}

// Authenticate calls the authorizer's Authenticate, in a span of its own if the handshake is traced.
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

// UserAttributes returns the attributes that describe a user in a span.
func UserAttributes(id relay.Identity) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("enduser.id", id.Key),
		attribute.String("edgerelay.user", id.Name),
		attribute.String("edgerelay.user_kind", id.Kind.String()),
	}
}

// TraceMessages returns a function that begins the span of a client's subscriptions, as a child of the handshake's
// span. The handshake's span ends long before. The function takes the number of groups, and returns a function that
// ends the span. Without a traced handshake, TraceMessages returns nil.
func TraceMessages(
	upgrade trace.Span, id relay.Identity,
) func(ctx context.Context, groups int) (context.Context, func(denied, failed int)) {
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
				span.SetStatus(codes.Error, "authorization of a group failed")
			}
			span.End()
		}
	}
}

// tracedTransport sends the trace of a request along to AWX's API.
type tracedTransport struct {
	plain, traced http.RoundTripper
}

// NewTracedTransport returns a transport that adds trace headers to requests of a traced handshake, and passes all
// other requests to plain unchanged.
func NewTracedTransport(plain http.RoundTripper) http.RoundTripper {
	propagators := otelhttp.WithPropagators(autoprop.NewTextMapPropagator())
	return tracedTransport{plain, otelhttp.NewTransport(plain, propagators)}
}

// RoundTrip implements [http.RoundTripper].
func (t tracedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if trace.SpanContextFromContext(r.Context()).IsValid() {
		return t.traced.RoundTrip(r)
	}
	return t.plain.RoundTrip(r)
}

// CloseIdleConnections makes [http.Client.CloseIdleConnections] reach the plain transport.
func (t tracedTransport) CloseIdleConnections() {
	if c, ok := t.plain.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
