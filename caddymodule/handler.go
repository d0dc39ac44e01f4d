package caddymodule

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.opentelemetry.io/otel/trace"

	"github.com/edgerelay/edgerelay/caddymodule/reject"
	"github.com/edgerelay/edgerelay/caddymodule/request"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/caddymodule/telemetry"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/protocol/awx"
	"github.com/edgerelay/edgerelay/relay/protocol/channels"
	"github.com/edgerelay/edgerelay/relay/transport/ws"
)

func init() {
	caddy.RegisterModule(Handler{})
}

// Handler serves WebSocket upgrades on the relay's paths. The next handler serves all other requests.
type Handler struct {
	// Paths are the relay's paths. Each path matches with and without a slash at the end, and in upper and lower case.
	// The wildcards of Caddy's path matcher are allowed, as in /ws/chat/*. Default: every path whose last segment is
	// "websocket", such as /websocket/ and /api/websocket/; with routes, none.
	Paths []string `json:"path,omitempty" caddyfile:"<path>..."`
	// Routes are paths that are served like consumers of Django Channels. The first that matches serves a request.
	Routes []*Route `json:"routes,omitempty" caddyfile:"route=<path> { … }"`

	app         *App
	paths       caddyhttp.MatchPath
	hasBackends bool // a site answers messages of a route, or may hold its responses
	auth        clientAuth
	retired     <-chan struct{} // closed when the server begins to shut down, as at a reload
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
	if err := settings.Check("edgerelay", h); err != nil {
		return err
	}
	h.auth, h.retired = h.app.defaultAuth(), retiredBy(ctx)
	h.app.watchServer(ctx)
	for i, rt := range h.Routes {
		if slices.ContainsFunc(h.Routes[:i], rt.samePath) {
			return fmt.Errorf("edgerelay: route %s: two routes have this path; remove one, since the first serves all "+
				"clients", rt.Path)
		}
		if err := rt.provision(ctx, h.app); err != nil {
			return err
		}
		if j := slices.IndexFunc(h.Routes[:i], rt.isCoveredBy); j >= 0 {
			return fmt.Errorf("edgerelay: route %s: route %s comes before and serves all clients of this path; put it behind",
				rt.Path, h.Routes[j].Path)
		}
		h.hasBackends = h.hasBackends || rt.backend() != nil || rt.site != nil
	}
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
		if channels.HasQuery(p) {
			return nil, fmt.Errorf("edgerelay: path %q has a query; write the path alone", p)
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
	if h.guardBackends(w, r) {
		return nil
	}
	if ws.ConnectProtocol(r) != "" {
		return h.serveConnect(w, r, next)
	}
	if !ws.IsUpgrade(r) {
		if served, err := h.serveOther(w, r, next); served {
			return err
		}
		h.recordStripped(r)
		return next.ServeHTTP(w, r)
	}
	endpoint, peer := h.matchPeer(r)
	route, routed := h.matchRoute(r)
	routed = routed && route.route.servesSockets()
	if !peer && !routed && !h.matches(r) {
		return next.ServeHTTP(w, r)
	}
	closeUnlessUpgraded(w)
	if !h.awaitConfig(w, r) {
		return nil
	}
	switch {
	case peer:
		h.upgradePeer(w, r, endpoint)
	case routed:
		h.upgradeRoute(w, r, route)
	default:
		h.upgrade(w, r)
	}
	return nil
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
		if len(h.Routes) > 0 {
			return false
		}
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
	switch h.authenticate(w, r, reservation, h.auth) {
	case loginRejected:
		return
	case tokenAwaited:
		if conn := h.accept(w, r, reservation, nil); conn != nil {
			h.awaitToken(conn, r, h.auth, reservation, awx.Protocol{}.EndLogin, func(r *http.Request) ws.Handler {
				conn.SendAnswer(awx.Greeting(reservation.Identity()), 0)
				return h.serve(conn, r, span, reservation)
			})
		}
		return
	}
	if conn := h.accept(w, r, reservation, awx.Greeting(reservation.Identity())); conn != nil {
		conn.Attend(h.serve(conn, r, span, reservation))
	}
}

// admit checks the handshake and the limits, and reserves capacity for the connection. A rejection returns nil.
func (h *Handler) admit(w http.ResponseWriter, r *http.Request) *hub.Reservation {
	if status, reason := ws.CheckUpgrade(w, r); status != 0 {
		h.reject(w, r, rejection{status, reject.InvalidHandshake, request.ClientAddress(r), reason, errors.New(reason)})
		return nil
	}
	return h.reserve(w, r)
}

// reserve checks the limits, and reserves capacity for the connection. A rejection returns nil.
func (h *Handler) reserve(w http.ResponseWriter, r *http.Request) *hub.Reservation {
	a, address := h.app, request.ClientAddress(r)
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

// loginResult is the result of [Handler.authenticate].
type loginResult uint8

const (
	// loginRejected: the request is answered, and the reservation is released or left to [Handler.rejectLogin].
	loginRejected loginResult = iota
	// loggedIn: the reservation is identified.
	loggedIn
	// tokenAwaited: the client may send a token in its first message. The reservation is pending.
	tokenAwaited
)

// authenticate checks the origin, authenticates the client and reserves capacity for the user's connection.
func (h *Handler) authenticate(
	w http.ResponseWriter, r *http.Request, reservation *hub.Reservation, auth clientAuth,
) (result loginResult) {
	keep := false
	defer func() {
		if result == loginRejected && !keep {
			reservation.Release()
		}
	}()
	address := reservation.Address
	if !allowsOrigin(h.app.Origins, r) {
		h.reject(w, r, rejection{
			http.StatusForbidden, reject.OriginDenied, address, "origin not allowed", originError(r),
		})
		return loginRejected
	}
	id, err := telemetry.Authenticate(auth.Authorizer, r)
	if errors.Is(err, relay.ErrTokenAwaited) && auth.messages != nil {
		return tokenAwaited
	}
	reservation.EndHandshake()
	switch {
	case errors.Is(err, relay.ErrUnauthenticated):
		keep = h.rejectLogin(w, r, reservation, auth.route, err)
		return loginRejected
	case err != nil:
		h.reject(w, r, rejection{
			http.StatusServiceUnavailable, authFailure(r, err), address, "authentication is unavailable", err,
		})
		return loginRejected
	}
	if err := reservation.Identify(id); err != nil {
		h.reject(w, r, rejection{http.StatusTooManyRequests, reject.LimitReached, address, err.Error(), err})
		return loginRejected
	}
	return loggedIn
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
func (h *Handler) accept(
	w http.ResponseWriter, r *http.Request, reservation *hub.Reservation, greeting []byte,
) *ws.Conn {
	options := h.app.node.WSOptions(h.app.config, greeting)
	if name := subprotocolOf(reservation.Identity()); name != "" {
		options.Subprotocols = append(slices.Clip(options.Subprotocols), name)
	}
	conn, err := ws.Accept(unwrapTimeouts(w), r, options)
	if err != nil {
		reservation.Release()
		return nil
	}
	return conn
}

// serve opens the session of the WebSocket. It returns the receiver of the client's messages.
func (h *Handler) serve(
	conn *ws.Conn, r *http.Request, span trace.Span, reservation *hub.Reservation,
) ws.Handler {
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
	return h.withRefresh(h.auth, client.Session, client)
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

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
