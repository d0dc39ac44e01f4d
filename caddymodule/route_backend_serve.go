package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/edgerelay/edgerelay/caddymodule/reject"
	"github.com/edgerelay/edgerelay/relay/protocol/channels"
	"github.com/edgerelay/edgerelay/relay/protocol/webhttp"
	"github.com/edgerelay/edgerelay/relay/transport/ws"
)

// guardBackends keeps what only the relay may send from the backends. It reports whether it has answered the request.
func (h *Handler) guardBackends(w http.ResponseWriter, r *http.Request) (answered bool) {
	if !h.hasBackends {
		return false
	}
	for _, kind := range r.Header["Content-Type"] {
		if webhttp.ReadAsEvents(kind) {
			http.Error(w, "this media type is not accepted from clients", http.StatusUnsupportedMediaType)
			return true
		}
	}
	if m, ok := h.matchRoute(r); ok && (m.route.backend() != nil || m.route.site != nil) {
		webhttp.StripReserved(r.Header)
		return false
	}
	webhttp.StripGrip(r.Header)
	return false
}

// openBackend asks the backend of a route whether it accepts the handshake. If the result is false, the request is
// answered.
func (h *Handler) openBackend(w http.ResponseWriter, r *http.Request, e *entry) bool {
	b := e.route.backend()
	if b == nil {
		return true
	}
	id, address := e.reservation.Identity(), e.reservation.Address
	if hasDotSegment(r.URL.Path) {
		e.route.live.Route.Stats.Rejected.Add(1)
		h.reject(w, r, rejection{http.StatusBadRequest, reject.InvalidHandshake, address, "invalid path", errDotSegment})
		return false
	}
	client := webhttp.Client{Scheme: schemeOf(r), Key: id.Key}
	if address.IsValid() {
		client.Address = address.Unmap().String()
	}
	if client.Key == "" {
		client.Key = client.Address
	}
	opening, rejected := b.to.Open(r, client)
	if rejected == nil {
		e.opening = opening
		return true
	}
	e.route.live.Route.Stats.Rejected.Add(1)
	h.recordBackend(r, e, rejected)
	for name, values := range rejected.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(rejected.Status)
	_, _ = w.Write(rejected.Body) // the client may be gone
	return false
}

// errDotSegment rejects a path that the site may read in another way than the route: the site would get a signed
// request for a path that the route does not have.
var errDotSegment = errors.New("the path has a segment . or .., which no browser sends")

// hasDotSegment reports whether a path has the segment "." or "..".
func hasDotSegment(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// passOpening sets the headers of the backend's answer for the client, and returns the subprotocol.
func passOpening(w http.ResponseWriter, o *webhttp.Opening) (subprotocols []string) {
	for name, values := range o.Header {
		w.Header()[name] = values
	}
	if o.Subprotocol != "" {
		subprotocols = []string{o.Subprotocol}
	}
	return subprotocols
}

// recordBackend counts and logs a handshake that the backend has rejected, or did not answer.
func (h *Handler) recordBackend(r *http.Request, e *entry, rejected *webhttp.Rejection) {
	switch err := rejected.Err; {
	case err == nil:
		err = fmt.Errorf("the backend answered %d", rejected.Status)
		h.record(r, reject.BackendRejected.LogLevel(), reject.BackendRejected, e.reservation.Address, err)
	case r.Context().Err() != nil:
		h.record(r, reject.ClientGone.LogLevel(), reject.ClientGone, e.reservation.Address, err)
	default:
		h.record(r, reject.BackendFailed.LogLevel(), reject.BackendFailed, e.reservation.Address, err)
	}
}

// schemeOf returns the scheme of the client's request, which a trusted proxy in front reports.
func schemeOf(r *http.Request) string {
	if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); trusted {
		if scheme := r.Header.Get("X-Forwarded-Proto"); scheme == "http" || scheme == "https" {
			return scheme
		}
	}
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// openBehind is [Handler.openRoute] for a client whose backend has accepted the handshake. The client has subscribed
// before the upgrade, and gets the messages of the backend's answer after it.
func (h *Handler) openBehind(r *http.Request, e *entry) {
	route := e.route.live.Route
	e.socket = channels.NewSocket(h.app.config.Compression != nil && ws.WillDeflate(r))
	conn := e.opening.Conn(e.socket)
	e.session = e.reservation.OpenAs(conn, route)
	e.client = route.OpenBehind(e.session, conn, e.release)
	ctx, cancel := context.WithTimeout(r.Context(), routeJoinTimeout)
	defer cancel()
	e.opening.Start(ctx, e.session, e.subs)
}
