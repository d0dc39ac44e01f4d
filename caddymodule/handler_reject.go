package caddymodule

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/edgerelay/edgerelay/caddymodule/reject"
	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
)

// retryAfterSeconds is the value of the header Retry-After.
const retryAfterSeconds = "5"

// retryAfter returns the value of the header Retry-After for a client that is rejected because of an error.
func retryAfter(err error) string {
	var suspended *plugins.SuspendedError
	if !errors.As(err, &suspended) {
		return retryAfterSeconds
	}
	return strconv.Itoa(max(1, int(math.Ceil(suspended.RetryAfter.Seconds()))))
}

// rejection describes a handshake that leads to no session.
type rejection struct {
	status  int
	reason  reject.Reason
	address netip.Addr
	message string // for the client
	err     error  // for the log
}

// reject counts and logs a rejection and answers the request.
func (h *Handler) reject(w http.ResponseWriter, r *http.Request, why rejection) {
	h.record(r, why.reason.LogLevel(), why.reason, why.address, why.err)
	if why.status == http.StatusServiceUnavailable || why.status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", retryAfter(why.err))
	}
	reject.Respond(w, r, why.status, why.reason.String(), why.message)
}

// record counts and logs a rejection.
func (h *Handler) record(r *http.Request, level slog.Level, why reject.Reason, address netip.Addr, err error) {
	h.app.node.Rejections[why].Add(1)
	span := trace.SpanFromContext(r.Context())
	span.SetAttributes(attribute.String("edgerelay.rejected", why.String()))
	if why == reject.AuthFailed {
		span.SetStatus(codes.Error, err.Error())
	}
	h.app.node.Log.Log(context.Background(), level, why.LogMessage(),
		"address", relay.AddressText(address), "reason", err.Error(), "remedy", why.Remedy())
}
