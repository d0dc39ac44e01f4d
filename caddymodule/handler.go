package caddymodule

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/awx"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/ws"
)

func init() {
	caddy.RegisterModule(Handler{})
}

// Handler takes websocket upgrades on the relay's paths; everything else goes on to the next handler.
type Handler struct {
	// Paths are the paths to take, with or without a slash at the end. Default: every path whose last
	// segment is "websocket", such as /websocket/ and /api/websocket/, under any prefix.
	Paths []string `json:"paths,omitempty"`

	app *App
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
	h.app.markLastFiles(ctx)
	for _, p := range h.Paths {
		if !strings.HasPrefix(p, "/") {
			return errors.New("edgerelay: a path begins with a slash: " + p)
		}
	}
	return nil
}

// ServeHTTP implements [caddyhttp.MiddlewareHandler]. It returns as soon as the websocket
// stands: nothing of the request stays in memory.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !ws.IsUpgrade(r) {
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
		http.Error(w, "the backplane is not ready yet", http.StatusServiceUnavailable)
		return
	}
	if status, reason := ws.CheckUpgrade(w, r); status != 0 {
		http.Error(w, reason, status)
		return
	}
	plane.Serve(w, r, endpoint)
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
	_, ok := original(r, func(path string) (struct{}, bool) { return struct{}{}, h.takesPath(path) })
	return ok
}

func (h *Handler) takesPath(path string) bool {
	path = strings.TrimSuffix(path, "/")
	if len(h.Paths) == 0 {
		return strings.HasSuffix(path, "/websocket")
	}
	for _, p := range h.Paths {
		if path == strings.TrimSuffix(p, "/") {
			return true
		}
	}
	return false
}

// upgrade checks, in this order, the handshake, the limits, the origin and the user, and serves the websocket. The steps are calls of their
// own, so that they share their stack: Caddy's is more than 5 KiB deep here, and what needs more than 7 in all is copied into one of 16.
func (h *Handler) upgrade(w http.ResponseWriter, r *http.Request) {
	r, span := startUpgrade(r)
	defer span.End()
	address := clientAddress(r)
	if !h.admit(w, r, address) {
		return
	}
	var id relay.Identity
	if !h.identify(w, r, address, &id) {
		return
	}
	if conn := h.accept(w, r, address, &id); conn != nil {
		h.serve(conn, r, span, address, &id)
	}
}

// admit checks the handshake and the limits, and reserves room for the connection.
func (h *Handler) admit(w http.ResponseWriter, r *http.Request, address netip.Addr) bool {
	a, hub := h.app, h.app.node.hub
	if status, reason := ws.CheckUpgrade(w, r); status != 0 {
		a.node.rejected[badHandshake].Add(1)
		trace.SpanFromContext(r.Context()).SetAttributes(attribute.String("edgerelay.rejected", badHandshake.String()))
		http.Error(w, reason, status)
		return false
	}
	if err := a.checkFiles(r); err != nil {
		hub.CountRefusal()
		h.refuse(w, r, http.StatusServiceUnavailable, rejectedLimit, address, err.Error(), a.remedy(err))
		return false
	}
	if err := hub.Admit(address); err != nil {
		status := http.StatusServiceUnavailable
		if errors.Is(err, relay.ErrTooManyFromAddress) {
			status = http.StatusTooManyRequests
		}
		h.refuse(w, r, status, rejectedLimit, address, err.Error(), a.remedy(err))
		return false
	}
	return true
}

// identify checks the origin, finds out who the client is, and reserves room for the user's connection. If it is not ok, the answer is
// given, and the room of the connection given back.
func (h *Handler) identify(w http.ResponseWriter, r *http.Request, address netip.Addr, id *relay.Identity) (ok bool) {
	a, hub := h.app, h.app.node.hub
	leaves := false // a websocket that says goodbye keeps the room until it is gone
	defer func() {
		if !ok && !leaves {
			hub.Dismiss(address)
		}
	}()
	if !ws.Origins(a.Origins).Allow(r) {
		h.refuse(w, r, http.StatusForbidden, rejectedOrigin, address, "this page's origin may not connect",
			errors.New("origin "+r.Header.Get("Origin")+" is not "+r.Host+" and not among the configured origins"))
		return false
	}
	var err error
	*id, err = authenticate(a.authorizer, r)
	if errors.Is(err, relay.ErrUnauthenticated) {
		leaves = h.turnAway(w, r, address, func() { hub.Dismiss(address) })
		return false
	}
	if err != nil {
		h.refuse(w, r, http.StatusServiceUnavailable, authFailure(r, err), address, "authentication is unavailable", err)
		return false
	}
	if err := hub.AdmitUser(*id); err != nil {
		h.refuse(w, r, http.StatusTooManyRequests, rejectedLimit, address, err.Error(), err)
		return false
	}
	return true
}

// authFailure tells whose failure it is that a client was not authenticated: the authority's, only if the client waited for its answer.
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
func (h *Handler) accept(w http.ResponseWriter, r *http.Request, address netip.Addr, id *relay.Identity) *ws.Conn {
	conn, err := ws.Accept(unwatched(w), r, h.app.node.frameSize, awx.Greeting(*id))
	if err != nil {
		h.app.node.hub.DismissUser(*id)
		h.app.node.hub.Dismiss(address)
		return nil
	}
	return conn
}

// serve makes a session of the websocket.
func (h *Handler) serve(conn *ws.Conn, r *http.Request, span trace.Span, address netip.Addr, id *relay.Identity) {
	node := h.app.node
	client := &awx.Client{
		Shared: &node.clients, Session: node.hub.Open(conn, *id, address),
		Token: csrfToken(r), Trace: traceMessages(span, *id),
	}
	if span.IsRecording() {
		span.SetAttributes(userAttributes(*id)...)
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

// turnAway tells a client that nobody is logged in. It reports whether there is a websocket, which release is called after.
func (h *Handler) turnAway(w http.ResponseWriter, r *http.Request, address netip.Addr, release func()) bool {
	h.note(r, slog.LevelInfo, rejectedNobody, address, errors.New("the client is not logged in"))
	if h.app.Unauthenticated == "reject" {
		http.Error(w, "not logged in", http.StatusUnauthorized)
		return false
	}
	conn, err := ws.Accept(w, r, h.app.node.frameSize, nil)
	if err != nil {
		return false
	}
	relay.Farewell(conn)
	conn.Attend(leaving(release)) // until the client has answered the close frame
	return true
}

// leaving is called when a client that was turned away is gone.
type leaving func()

func (leaving) Message(bool, []byte) {}

func (release leaving) Ended() { release() }

// refuse answers a handshake that leads nowhere.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, status int, why rejection, address netip.Addr, reason string, err error) {
	level := slog.LevelInfo // a client's doing, but for:
	switch why {
	case rejectedAuth:
		level = slog.LevelError
	case clientGone:
		level = slog.LevelDebug
	case rejectedLimit, rejectedOrigin, rejectedStarting, rejectedBusy: // perhaps a setting that should be another
		level = slog.LevelWarn
	}
	h.note(r, level, why, address, err)
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "5")
	}
	http.Error(w, reason, status)
}

// note counts and logs a rejection.
func (h *Handler) note(r *http.Request, level slog.Level, why rejection, address netip.Addr, err error) {
	h.app.node.rejected[why].Add(1)
	span := trace.SpanFromContext(r.Context())
	span.SetAttributes(attribute.String("edgerelay.rejected", why.String()))
	if why == rejectedAuth {
		span.SetStatus(codes.Error, err.Error())
	}
	h.app.node.log.Log(context.Background(), level, why.message(), "address", address.String(), "reason", err.Error(), "remedy", why.remedy())
}

// clientAddress is the address of the browser as Caddy knows it, behind trusted proxies, too.
func clientAddress(r *http.Request) netip.Addr {
	if s, ok := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string); ok {
		if addr, err := netip.ParseAddr(s); err == nil {
			return addr.Unmap()
		}
	}
	addr, _ := netip.ParseAddrPort(r.RemoteAddr)
	return addr.Addr().Unmap()
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
