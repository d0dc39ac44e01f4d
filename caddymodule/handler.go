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

// Handler takes websocket upgrades on the relay's paths; everything else goes on to the next handler.
type Handler struct {
	// Paths are the paths to take, with or without a slash at the end. They may have the wildcards of Caddy's path
	// matcher, such as /ws/chat/*, and like there, upper and lower case are the same. Default: every path whose last
	// segment is "websocket", such as /websocket/ and /api/websocket/, under any prefix.
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
		if _, err := path.Match(p, "/"); err != nil { // Caddy's matcher would match nothing, and not say so
			return nil, fmt.Errorf("edgerelay: path %q is malformed; close its brackets", p)
		}
		bare := strings.TrimSuffix(p, "/")
		if m = append(m, p); p != "/" && !strings.HasSuffix(p, "*") {
			m = append(m[:len(m)-1], bare, bare+"/")
		}
	}
	return m, nil
}

// ServeHTTP implements [caddyhttp.MiddlewareHandler]. It returns as soon as the websocket
// stands: nothing of the request stays in memory.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !ws.IsUpgrade(r) {
		h.countStripped(r)
		return next.ServeHTTP(w, r)
	}
	endpoint, peer := request.MatchOriginal(r, backplane.Endpoint)
	if peer = peer && h.app.Backplane != nil; !peer && !h.matches(r) {
		return next.ServeHTTP(w, r)
	}
	closeUnlessUpgraded(w)
	if err := h.app.node.AwaitConfig(r.Context()); err != nil {
		h.refuse(w, r, http.StatusServiceUnavailable, reject.NotReady, request.ClientAddress(r), "the relay is not ready yet", err)
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
	if plane == nil { // its configuration is about to be put in force
		w.Header().Set("Retry-After", retryAfterSeconds)
		reject.Respond(w, r, http.StatusServiceUnavailable, reject.NotReady.String(), "the backplane is not ready yet")
		return
	}
	if status, reason := ws.CheckUpgrade(w, r); status != 0 {
		h.refuse(w, r, status, reject.InvalidHandshake, request.ClientAddress(r), reason, errors.New(reason))
		return
	}
	if status := plane.Serve(w, r, endpoint); status != 0 {
		reject.Respond(w, r, status, "peer", http.StatusText(status))
	}
}

// noteStripped logs a request to one of the relay's paths that was a handshake before a proxy took its Upgrade header
// away. The next handler answers it, like any other request that asks for no websocket.
func (h *Handler) countStripped(r *http.Request) {
	if r.Header["Sec-Websocket-Key"] != nil && h.matches(r) {
		h.record(r, slog.LevelWarn, reject.UpgradeStripped, request.ClientAddress(r),
			errors.New("the request has Sec-WebSocket-Key but not Upgrade: websocket"))
	}
}

// closeUnlessUpgraded ends the connection of a handshake that is refused: a proxy that has not looked at the answer takes what the client
// sends next for frames, and it must not be read as a request. An upgrade sets the header anew.
// See docs/decisions/transport.md#why-does-a-rejected-handshake-end-its-tcp-connection
func closeUnlessUpgraded(w http.ResponseWriter) { w.Header().Set("Connection", "close") }

// takes reports whether the request's path is one of the relay's.
func (h *Handler) matches(r *http.Request) bool {
	if len(h.paths) == 0 {
		_, ok := request.MatchOriginal(r, func(path string) (struct{}, bool) { return struct{}{}, endsInWebsocket(path) })
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

// upgrade checks, in this order, the handshake, the limits, the origin and the user, and serves the websocket. The steps are calls of their
// own, so that they share their stack: Caddy's is more than 5 KiB deep here, and what needs more than 7 in all is copied into one of 16.
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

// admit checks the handshake and the limits, and reserves room for the connection. It returns nil if the request is
// answered.
func (h *Handler) admit(w http.ResponseWriter, r *http.Request) *hub.Reservation {
	a, address := h.app, request.ClientAddress(r)
	if status, reason := ws.CheckUpgrade(w, r); status != 0 {
		h.refuse(w, r, status, reject.InvalidHandshake, address, reason, errors.New(reason))
		return nil
	}
	if !address.IsValid() {
		a.node.WarnUnknownAddress()
	}
	if err := a.node.CheckDescriptors(r, a.config.Descriptors.Max); err != nil {
		a.node.Hub.CountRejection()
		h.refuse(w, r, http.StatusServiceUnavailable, reject.LimitReached, address, err.Error(), a.config.WithRemedy(err))
		return nil
	}
	room, err := a.node.Hub.Admit(address)
	switch {
	case err == nil:
		return room
	case errors.Is(err, hub.ErrTooManyPending):
		h.refuse(w, r, http.StatusTooManyRequests, reject.TooManyPending, address, err.Error(), err)
	case errors.Is(err, hub.ErrTooManyFromAddress):
		h.refuse(w, r, http.StatusTooManyRequests, reject.LimitReached, address, err.Error(), err)
	default:
		h.refuse(w, r, http.StatusServiceUnavailable, reject.LimitReached, address, err.Error(), a.config.WithRemedy(err))
	}
	return nil
}

// identify checks the origin, authenticates the client and reserves capacity for the user's connection. If it returns
// false, the request is answered, and the reservation released or left to the websocket of [Handler.turnAway].
func (h *Handler) authenticate(w http.ResponseWriter, r *http.Request, reservation *hub.Reservation) (ok bool) {
	keep := false
	defer func() {
		if !ok && !keep {
			reservation.Release()
		}
	}()
	address := reservation.Address
	if !allowsOrigin(h.app.Origins, r) {
		h.refuse(w, r, http.StatusForbidden, reject.OriginDenied, address, "this page's origin may not connect", originError(r))
		return false
	}
	id, err := telemetry.Authenticate(h.app.config.Authorizer, r)
	reservation.EndHandshake()
	switch {
	case errors.Is(err, relay.ErrUnauthenticated):
		keep = h.rejectLogin(w, r, reservation)
		return false
	case err != nil:
		h.refuse(w, r, http.StatusServiceUnavailable, authFailure(r, err), address, "authentication is unavailable", err)
		return false
	}
	if err := reservation.Identify(id); err != nil {
		h.refuse(w, r, http.StatusTooManyRequests, reject.LimitReached, address, err.Error(), err)
		return false
	}
	return true
}

// authFailure tells whose failure it is that a client was not authenticated: the authority's, only if the client waited
// for its answer.
func authFailure(r *http.Request, err error) reject.Reason {
	switch {
	case r.Context().Err() != nil:
		return reject.ClientGone
	case errors.Is(err, relay.ErrBusy):
		return reject.AuthBusy
	}
	return reject.AuthFailed
}

// accept makes the connection a websocket.
func (h *Handler) accept(w http.ResponseWriter, r *http.Request, reservation *hub.Reservation) *ws.Conn {
	conn, err := ws.Accept(unwrapTimeouts(w), r, h.app.node.WSOptions(awx.Greeting(reservation.Identity())))
	if err != nil {
		reservation.Release()
		return nil
	}
	return conn
}

// serve makes a session of the websocket.
func (h *Handler) serve(conn *ws.Conn, r *http.Request, span trace.Span, reservation *hub.Reservation) {
	node, id := h.app.node, reservation.Identity()
	client := &awx.Client{
		Shared: &node.AWX, Session: reservation.Open(conn),
		CSRFToken: csrfToken(r), Trace: telemetry.TraceMessages(span, id),
	}
	if span.IsRecording() {
		span.SetAttributes(telemetry.UserAttributes(id)...)
	}
	h.app.events.Follow(span)
	conn.Attend(client)
}

// watchers are the wrappers that Caddy puts around each response to watch for stalls. They want nothing of a websocket's handshake, so
// that it can be written past them, in one piece with the greeting; others, such as an access log's, must see it.
var timeoutWrappers = []string{"*caddyhttp.IdleTimeoutWriter", "*caddyhttp.readDeadlineWriter"}

// unwatched takes the watchers off.
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

// turnAway tells a client that it is not logged in. It reports whether there is a websocket, which keeps the room until
// its end.
func (h *Handler) rejectLogin(w http.ResponseWriter, r *http.Request, reservation *hub.Reservation) bool {
	if h.app.Unauthenticated == "reject" { // as AWX does since 23.8
		h.refuse(w, r, http.StatusForbidden, reject.NotLoggedIn, reservation.Address, "not logged in", errNotLoggedIn)
		return false
	}
	h.record(r, slog.LevelInfo, reject.NotLoggedIn, reservation.Address, errNotLoggedIn)
	conn, err := ws.Accept(w, r, h.app.node.WSOptions(nil))
	if err != nil {
		return false
	}
	awx.Protocol{}.EndLogin(conn)
	conn.Attend(rejectedLogin{reservation}) // until the client has answered the close frame
	return true
}

var errNotLoggedIn = errors.New("the client is not logged in")

// leaving gives the room of a client that was turned away back when it is gone.
type rejectedLogin struct{ reservation *hub.Reservation }

func (rejectedLogin) Message(bool, []byte) {}

func (l rejectedLogin) Ended() { l.reservation.Release() }

// retryAfter is after how many seconds a client may try again.
const retryAfterSeconds = "5"

// refuse answers a handshake that leads nowhere: the client gets message, the log err.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, status int, why reject.Reason, address netip.Addr, message string, err error) {
	h.record(r, why.LogLevel(), why, address, err)
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", retryAfterSeconds)
	}
	reject.Respond(w, r, status, why.String(), message)
}

// note counts and logs a rejection.
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

// csrfToken is the csrftoken cookie of the handshake; of several the last, as Django reads them.
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
