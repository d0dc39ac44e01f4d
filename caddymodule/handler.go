package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/edgerelay/edgerelay/caddymodule/reject"
	"github.com/edgerelay/edgerelay/caddymodule/request"
	"github.com/edgerelay/edgerelay/caddymodule/telemetry"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/protocol/awx"
	"github.com/edgerelay/edgerelay/relay/transport/ws"
)

func init() {
	caddy.RegisterModule(Handler{})
}

// Handler serves WebSocket upgrades on the relay's paths. The next handler serves all other requests.
type Handler struct {
	// Paths are the relay's paths. Each path matches with and without a slash at the end, and in upper and lower case.
	// The wildcards of Caddy's path matcher are allowed, as in /ws/chat/*. Default: every path whose last segment is
	// "websocket", such as /websocket/ and /api/websocket/.
	Paths []string `json:"path,omitempty" caddyfile:"<path>..."`

	app   *App
	paths caddyhttp.MatchPath
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.edgerelay", New: func() caddy.Module { return new(Handler) }}
}

// Provision finds the app.
func (h *Handler) Provision(ctx caddy.Context) error {
	app, err := ctx.App("edgerelay")
	if err != nil {
		return err
	}
	h.app = app.(*App)
	h.app.watchDescriptors(ctx)
	if h.paths, err = pathMatcher(h.Paths); err != nil {
		return err
	}
	return h.paths.Provision(ctx)
}

// pathMatcher matches patterns with and without a slash at the end.
func pathMatcher(patterns []string) (m caddyhttp.MatchPath, err error) {
	for _, p := range patterns {
		if !strings.HasPrefix(p, "/") && !strings.HasPrefix(p, "*") {
			return nil, fmt.Errorf("edgerelay: path %q must begin with / or *; write a path such as /ws/ or /ws/*", p)
		}
		if _, err := path.Match(p, "/"); err != nil { // Caddy's matcher would silently match nothing
			return nil, fmt.Errorf("edgerelay: path %q is malformed; close its brackets", p)
		}
		bare := strings.TrimSuffix(p, "/")
		if m = append(m, p); p != "/" && !strings.HasSuffix(p, "*") {
			m = append(m[:len(m)-1], bare, bare+"/")
		}
	}
	return m, nil
}

// ServeHTTP implements [caddyhttp.MiddlewareHandler]. It returns as soon as the WebSocket is open, so that the request
// and its buffers leave memory.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !ws.IsUpgrade(r) {
		h.recordStripped(r)
		return next.ServeHTTP(w, r)
	}
	endpoint, peer := request.MatchOriginal(r, backplane.Endpoint)
	if peer = peer && h.app.Backplane != nil; !peer && !h.matches(r) {
		return next.ServeHTTP(w, r)
	}
	closeUnlessUpgraded(w)
	if err := h.app.node.AwaitConfig(r.Context()); err != nil {
		h.reject(w, r, rejection{
			http.StatusServiceUnavailable, reject.NotReady, request.ClientAddress(r), "relay is not ready", err,
		})
		return nil
	}
	if peer {
		h.upgradePeer(w, r, endpoint)
	} else {
		h.upgrade(w, r)
	}
	return nil
}

// upgradePeer serves a connection of the backplane.
func (h *Handler) upgradePeer(w http.ResponseWriter, r *http.Request, endpoint backplane.Dialect) {
	plane := h.app.node.Backplane.Load()
	if plane == nil { // the configuration is about to be applied
		w.Header().Set("Retry-After", retryAfterSeconds)
		reject.Respond(w, r, http.StatusServiceUnavailable, reject.NotReady.String(), "backplane is not ready")
		return
	}
	if status, reason := ws.CheckUpgrade(w, r); status != 0 {
		h.reject(w, r, rejection{status, reject.InvalidHandshake, request.ClientAddress(r), reason, errors.New(reason)})
		return
	}
	if status := plane.Serve(w, r, endpoint); status != 0 {
		reject.Respond(w, r, status, "peer", http.StatusText(status))
	}
}

// recordStripped counts and logs a handshake whose Upgrade header a proxy has removed. The next handler answers the
// request, like any other that asks for no WebSocket.
func (h *Handler) recordStripped(r *http.Request) {
	if r.Header["Sec-Websocket-Key"] != nil && h.matches(r) {
		h.record(r, slog.LevelWarn, reject.UpgradeStripped, request.ClientAddress(r),
			errors.New("the request has Sec-WebSocket-Key but not Upgrade: websocket"))
	}
}

// closeUnlessUpgraded ends the TCP connection of a rejected handshake: a proxy that ignores the response forwards the
// client's next bytes as frames, and the server must not read them as a request. An upgrade overwrites the header.
// See docs/decisions/transport.md#why-does-a-rejected-handshake-end-its-tcp-connection
func closeUnlessUpgraded(w http.ResponseWriter) { w.Header().Set("Connection", "close") }

// matches reports whether the request's path is one of the relay's.
func (h *Handler) matches(r *http.Request) bool {
	if len(h.paths) == 0 {
		_, ok := request.MatchOriginal(r, func(path string) (struct{}, bool) {
			return struct{}{}, endsInWebsocket(path)
		})
		return ok
	}
	if h.paths.Match(r) {
		return true
	}
	sent, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	if !ok || sent.URL == nil {
		return false
	}
	before := *r
	before.URL = sent.URL
	return h.paths.Match(&before)
}

// endsInWebsocket reports whether the last segment of a path is websocket.
func endsInWebsocket(path string) bool {
	return strings.HasSuffix(strings.TrimSuffix(path, "/"), "/websocket")
}

// upgrade checks the handshake, the limits, the origin and the user, in this order, and serves the WebSocket. The steps
// are separate calls and so reuse the same stack space: Caddy's stack is more than 5 KiB deep here, and a goroutine
// that needs more than 7 KiB gets a copy of 16 KiB.
func (h *Handler) upgrade(w http.ResponseWriter, r *http.Request) {
	r, span := telemetry.StartUpgrade(r)
	defer span.End()
	reservation := h.admit(w, r)
	if reservation == nil {
		return
	}
	if !h.authenticate(w, r, reservation) {
		return
	}
	if conn := h.accept(w, r, reservation); conn != nil {
		h.serve(conn, r, span, reservation)
	}
}

// admit checks the handshake and the limits, and reserves capacity for the connection. A rejection returns nil.
func (h *Handler) admit(w http.ResponseWriter, r *http.Request) *hub.Reservation {
	a, address := h.app, request.ClientAddress(r)
	if status, reason := ws.CheckUpgrade(w, r); status != 0 {
		h.reject(w, r, rejection{status, reject.InvalidHandshake, address, reason, errors.New(reason)})
		return nil
	}
	if !address.IsValid() {
		a.node.WarnUnknownAddress()
	}
	if err := a.node.CheckDescriptors(r, a.config.Descriptors.Max); err != nil {
		a.node.Hub.CountRejection()
		h.reject(w, r, rejection{
			http.StatusServiceUnavailable, reject.LimitReached, address, err.Error(), a.config.WithRemedy(err),
		})
		return nil
	}
	reservation, err := a.node.Hub.Admit(address)
	if err == nil {
		return reservation
	}
	rejected := rejection{http.StatusTooManyRequests, reject.LimitReached, address, err.Error(), err}
	switch {
	case errors.Is(err, hub.ErrTooManyPending):
		rejected.reason = reject.TooManyPending
	case !errors.Is(err, hub.ErrTooManyFromAddress):
		rejected.status, rejected.err = http.StatusServiceUnavailable, a.config.WithRemedy(err)
	}
	h.reject(w, r, rejected)
	return nil
}

// authenticate checks the origin, authenticates the client and reserves capacity for the user's connection. If the
// result is false, the request is answered, and the reservation is released or left to [Handler.rejectLogin].
func (h *Handler) authenticate(w http.ResponseWriter, r *http.Request, reservation *hub.Reservation) (ok bool) {
	keep := false
	defer func() {
		if !ok && !keep {
			reservation.Release()
		}
	}()
	address := reservation.Address
	if !allowsOrigin(h.app.Origins, r) {
		h.reject(w, r, rejection{
			http.StatusForbidden, reject.OriginDenied, address, "origin not allowed", originError(r),
		})
		return false
	}
	id, err := telemetry.Authenticate(h.app.config.Authorizer, r)
	reservation.EndHandshake()
	switch {
	case errors.Is(err, relay.ErrUnauthenticated):
		keep = h.rejectLogin(w, r, reservation)
		return false
	case err != nil:
		h.reject(w, r, rejection{
			http.StatusServiceUnavailable, authFailure(r, err), address, "authentication is unavailable", err,
		})
		return false
	}
	if err := reservation.Identify(id); err != nil {
		h.reject(w, r, rejection{http.StatusTooManyRequests, reject.LimitReached, address, err.Error(), err})
		return false
	}
	return true
}

// authFailure returns the reason for a failed authentication. The authority is at fault only if the client waited for
// the response.
func authFailure(r *http.Request, err error) reject.Reason {
	switch {
	case r.Context().Err() != nil:
		return reject.ClientGone
	case errors.Is(err, relay.ErrBusy):
		return reject.AuthBusy
	}
	return reject.AuthFailed
}

// accept upgrades the connection to a WebSocket. It returns nil if the client has gone.
func (h *Handler) accept(w http.ResponseWriter, r *http.Request, reservation *hub.Reservation) *ws.Conn {
	conn, err := ws.Accept(unwrapTimeouts(w), r, h.app.node.WSOptions(awx.Greeting(reservation.Identity())))
	if err != nil {
		reservation.Release()
		return nil
	}
	return conn
}

// serve opens the session of the WebSocket and starts to read the client's messages.
func (h *Handler) serve(conn *ws.Conn, r *http.Request, span trace.Span, reservation *hub.Reservation) {
	node, id := h.app.node, reservation.Identity()
	client := &awx.Client{
		Shared: &node.AWX, Session: reservation.Open(conn),
		CSRFToken: csrfToken(r), Trace: telemetry.TraceMessages(span, id),
		Positions: conn.Subprotocol() == awx.EventsSubprotocol,
	}
	if client.Positions {
		client.Session.OptIn()
	}
	if span.IsRecording() {
		span.SetAttributes(telemetry.UserAttributes(id)...)
	}
	h.app.events.Follow(span)
	conn.Attend(client)
}

// timeoutWrappers are Caddy's response writers that detect stalls. A handshake's response may bypass them, and leaves
// in one write together with the greeting. Other wrappers, such as an access log's, must see the response.
var timeoutWrappers = []string{"*caddyhttp.IdleTimeoutWriter", "*caddyhttp.readDeadlineWriter"}

// unwrapTimeouts returns the response writer below the timeoutWrappers.
// See docs/decisions/transport.md#why-do-the-handshakes-response-and-the-greeting-leave-in-one-write
func unwrapTimeouts(w http.ResponseWriter) http.ResponseWriter {
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok || !slices.Contains(timeoutWrappers, reflect.TypeOf(w).String()) {
			return w
		}
		w = u.Unwrap()
	}
}

// rejectLogin answers a client that is not logged in, as the setting unauthenticated demands. It reports whether it
// opened a WebSocket, which then holds the reservation.
func (h *Handler) rejectLogin(w http.ResponseWriter, r *http.Request, reservation *hub.Reservation) bool {
	if h.app.Unauthenticated == "reject" { // as AWX does since 23.8
		h.reject(w, r, rejection{
			http.StatusForbidden, reject.NotLoggedIn, reservation.Address, "not logged in", errNotLoggedIn,
		})
		return false
	}
	h.record(r, slog.LevelInfo, reject.NotLoggedIn, reservation.Address, errNotLoggedIn)
	conn, err := ws.Accept(w, r, h.app.node.WSOptions(nil))
	if err != nil {
		return false
	}
	awx.Protocol{}.EndLogin(conn)
	conn.Attend(rejectedLogin{reservation}) // until the client answers the close frame
	return true
}

var errNotLoggedIn = errors.New("the client is not logged in")

// rejectedLogin is the receiver of a WebSocket that is being closed because the client is not logged in. It ignores
// messages and releases the reservation at the end.
type rejectedLogin struct{ reservation *hub.Reservation }

func (rejectedLogin) Message(bool, []byte) {}

func (l rejectedLogin) Ended() { l.reservation.Release() }

// retryAfterSeconds is the value of the header Retry-After.
const retryAfterSeconds = "5"

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
		w.Header().Set("Retry-After", retryAfterSeconds)
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

// csrfToken returns the handshake's cookie csrftoken. Of several cookies the last one counts, as in Django.
func csrfToken(r *http.Request) string {
	token := ""
	for _, c := range r.CookiesNamed("csrftoken") {
		token = strings.Clone(c.Value)
	}
	return token
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
