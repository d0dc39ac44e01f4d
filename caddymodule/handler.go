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
	Paths []string `json:"paths,omitempty"`

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
	h.app.watchFiles(ctx)
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
		h.noteStripped(r)
		return next.ServeHTTP(w, r)
	}
	endpoint, peer := original(r, backplane.Endpoint)
	if peer = peer && h.app.Backplane != nil; !peer && !h.takes(r) {
		return next.ServeHTTP(w, r)
	}
	closeUnlessUpgraded(w)
	if err := h.app.node.awaitConfig(r.Context()); err != nil {
		h.refuse(w, r, http.StatusServiceUnavailable, rejectedStarting, clientAddress(r), "the relay is not ready yet", err)
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
	plane := h.app.node.plane.Load()
	if plane == nil { // its configuration is about to be put in force
		w.Header().Set("Retry-After", retryAfter)
		refuse(w, r, http.StatusServiceUnavailable, rejectedStarting.String(), "the backplane is not ready yet")
		return
	}
	if status, reason := ws.CheckUpgrade(w, r); status != 0 {
		h.refuse(w, r, status, badHandshake, clientAddress(r), reason, errors.New(reason))
		return
	}
	if status := plane.Serve(w, r, endpoint); status != 0 {
		refuse(w, r, status, "peer", http.StatusText(status))
	}
}

// noteStripped logs a request to one of the relay's paths that was a handshake before a proxy took its Upgrade header
// away. The next handler answers it, like any other request that asks for no websocket.
func (h *Handler) noteStripped(r *http.Request) {
	if r.Header["Sec-Websocket-Key"] != nil && h.takes(r) {
		h.note(r, slog.LevelWarn, noUpgrade, clientAddress(r),
			errors.New("the request has Sec-WebSocket-Key but not Upgrade: websocket"))
	}
}

// closeUnlessUpgraded ends the connection of a handshake that is refused: a proxy that has not looked at the answer takes what the client
// sends next for frames, and it must not be read as a request. An upgrade sets the header anew.
func closeUnlessUpgraded(w http.ResponseWriter) { w.Header().Set("Connection", "close") }

// original asks of a path what it is, as it stands now and as the client sent it: a rewrite before, such as try_files makes for a
// single-page application, does not hide it.
func original[T any](r *http.Request, what func(path string) (T, bool)) (T, bool) {
	if is, ok := what(r.URL.Path); ok {
		return is, true
	}
	if sent, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && sent.URL != nil {
		return what(sent.URL.Path)
	}
	var none T
	return none, false
}

// takes reports whether the request's path is one of the relay's.
func (h *Handler) takes(r *http.Request) bool {
	if len(h.paths) == 0 {
		_, ok := original(r, func(path string) (struct{}, bool) { return struct{}{}, endsInWebsocket(path) })
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
	r, span := startUpgrade(r)
	defer span.End()
	reservation := h.admit(w, r)
	if reservation == nil {
		return
	}
	if !h.identify(w, r, reservation) {
		return
	}
	if conn := h.accept(w, r, reservation); conn != nil {
		h.serve(conn, r, span, reservation)
	}
}

// admit checks the handshake and the limits, and reserves room for the connection. It returns nil if the request is
// answered.
func (h *Handler) admit(w http.ResponseWriter, r *http.Request) *hub.Reservation {
	a, address := h.app, clientAddress(r)
	if status, reason := ws.CheckUpgrade(w, r); status != 0 {
		h.refuse(w, r, status, badHandshake, address, reason, errors.New(reason))
		return nil
	}
	if !address.IsValid() {
		a.node.tellUnknownAddress()
	}
	if err := a.node.checkFiles(r, a.config.Files.Open); err != nil {
		a.node.hub.CountRejection()
		h.refuse(w, r, http.StatusServiceUnavailable, rejectedLimit, address, err.Error(), a.config.remedy(err))
		return nil
	}
	room, err := a.node.hub.Admit(address)
	switch {
	case err == nil:
		return room
	case errors.Is(err, hub.ErrTooManyPending):
		h.refuse(w, r, http.StatusTooManyRequests, rejectedPending, address, err.Error(), err)
	case errors.Is(err, hub.ErrTooManyFromAddress):
		h.refuse(w, r, http.StatusTooManyRequests, rejectedLimit, address, err.Error(), err)
	default:
		h.refuse(w, r, http.StatusServiceUnavailable, rejectedLimit, address, err.Error(), a.config.remedy(err))
	}
	return nil
}

// identify checks the origin, authenticates the client and reserves capacity for the user's connection. If it returns
// false, the request is answered, and the reservation released or left to the websocket of [Handler.turnAway].
func (h *Handler) identify(w http.ResponseWriter, r *http.Request, reservation *hub.Reservation) (ok bool) {
	keep := false
	defer func() {
		if !ok && !keep {
			reservation.Release()
		}
	}()
	address := reservation.Address
	if !allowsOrigin(h.app.Origins, r) {
		h.refuse(w, r, http.StatusForbidden, rejectedOrigin, address, "this page's origin may not connect", originError(r))
		return false
	}
	id, err := authenticate(h.app.config.Authorizer, r)
	reservation.EndHandshake()
	switch {
	case errors.Is(err, relay.ErrUnauthenticated):
		keep = h.turnAway(w, r, reservation)
		return false
	case err != nil:
		h.refuse(w, r, http.StatusServiceUnavailable, authFailure(r, err), address, "authentication is unavailable", err)
		return false
	}
	if err := reservation.Identify(id); err != nil {
		h.refuse(w, r, http.StatusTooManyRequests, rejectedLimit, address, err.Error(), err)
		return false
	}
	return true
}

// authFailure tells whose failure it is that a client was not authenticated: the authority's, only if the client waited
// for its answer.
func authFailure(r *http.Request, err error) rejection {
	switch {
	case r.Context().Err() != nil:
		return clientGone
	case errors.Is(err, relay.ErrBusy):
		return rejectedBusy
	}
	return rejectedAuth
}

// accept makes the connection a websocket.
func (h *Handler) accept(w http.ResponseWriter, r *http.Request, reservation *hub.Reservation) *ws.Conn {
	conn, err := ws.Accept(unwatched(w), r, h.app.node.wsOptions(awx.Greeting(reservation.Identity())))
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
		Shared: &node.clients, Session: reservation.Open(conn),
		CSRFToken: csrfToken(r), Trace: traceMessages(span, id),
	}
	if span.IsRecording() {
		span.SetAttributes(userAttributes(id)...)
	}
	node.events.follow(span)
	conn.Attend(client)
}

// watchers are the wrappers that Caddy puts around each response to watch for stalls. They want nothing of a websocket's handshake, so
// that it can be written past them, in one piece with the greeting; others, such as an access log's, must see it.
var watchers = []string{"*caddyhttp.IdleTimeoutWriter", "*caddyhttp.readDeadlineWriter"}

// unwatched takes the watchers off.
func unwatched(w http.ResponseWriter) http.ResponseWriter {
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok || !slices.Contains(watchers, reflect.TypeOf(w).String()) {
			return w
		}
		w = u.Unwrap()
	}
}

// turnAway tells a client that it is not logged in. It reports whether there is a websocket, which keeps the room until
// its end.
func (h *Handler) turnAway(w http.ResponseWriter, r *http.Request, reservation *hub.Reservation) bool {
	if h.app.Unauthenticated == "reject" { // as AWX does since 23.8
		h.refuse(w, r, http.StatusForbidden, rejectedNobody, reservation.Address, "not logged in", errNotLoggedIn)
		return false
	}
	h.note(r, slog.LevelInfo, rejectedNobody, reservation.Address, errNotLoggedIn)
	conn, err := ws.Accept(w, r, h.app.node.wsOptions(nil))
	if err != nil {
		return false
	}
	awx.Protocol{}.EndLogin(conn)
	conn.Attend(leaving{reservation}) // until the client has answered the close frame
	return true
}

var errNotLoggedIn = errors.New("the client is not logged in")

// leaving gives the room of a client that was turned away back when it is gone.
type leaving struct{ reservation *hub.Reservation }

func (leaving) Message(bool, []byte) {}

func (l leaving) Ended() { l.reservation.Release() }

// retryAfter is after how many seconds a client may try again.
const retryAfter = "5"

// refuse answers a handshake that leads nowhere: the client gets message, the log err.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, status int, why rejection, address netip.Addr, message string, err error) {
	h.note(r, why.level(), why, address, err)
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", retryAfter)
	}
	refuse(w, r, status, why.String(), message)
}

// note counts and logs a rejection.
func (h *Handler) note(r *http.Request, level slog.Level, why rejection, address netip.Addr, err error) {
	h.app.node.rejected[why].Add(1)
	span := trace.SpanFromContext(r.Context())
	span.SetAttributes(attribute.String("edgerelay.rejected", why.String()))
	if why == rejectedAuth {
		span.SetStatus(codes.Error, err.Error())
	}
	h.app.node.log.Log(context.Background(), level, why.message(),
		"address", relay.AddressText(address), "reason", err.Error(), "remedy", why.remedy())
}

// clientAddress is the address of the browser as Caddy knows it, behind trusted proxies, too. It is the zero Addr if
// Caddy does not know it, as behind a Unix socket without trusted_proxies_unix.
func clientAddress(r *http.Request) netip.Addr {
	if s, ok := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string); ok {
		if addr, err := netip.ParseAddr(s); err == nil {
			return addr.Unmap()
		}
	}
	addr, _ := netip.ParseAddrPort(r.RemoteAddr)
	return addr.Addr().Unmap()
}

// tellUnknownAddress logs, once, that no limit per address holds.
func (n *node) tellUnknownAddress() {
	if !n.unknownAddress.Swap(true) {
		n.log.Warn("client addresses are unknown; limits per address do not apply",
			"remedy", "set trusted_proxies_unix in Caddy's option servers, and let the proxy in front send X-Forwarded-For")
	}
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
