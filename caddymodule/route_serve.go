package caddymodule

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.opentelemetry.io/otel/trace"

	"github.com/edgerelay/edgerelay/caddymodule/reject"
	"github.com/edgerelay/edgerelay/caddymodule/request"
	"github.com/edgerelay/edgerelay/caddymodule/telemetry"
	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/protocol/channels"
	"github.com/edgerelay/edgerelay/relay/protocol/webhttp"
	"github.com/edgerelay/edgerelay/relay/transport/ws"
)

// routeJoinTimeout bounds the time that a client's handshake, and then its first frame, waits for the channel layer.
const routeJoinTimeout = 5 * time.Second

// routeMatch is a route and the parameters of a request's path.
type routeMatch struct {
	route  *Route
	params []string
}

// matchRoute returns the first route that matches the request's path.
func (h *Handler) matchRoute(r *http.Request) (routeMatch, bool) {
	if len(h.Routes) == 0 {
		return routeMatch{}, false
	}
	return request.MatchOriginal(r, func(path string) (routeMatch, bool) {
		path = caddyhttp.CleanPath(path, true)
		for _, rt := range h.Routes {
			if params, ok := rt.pattern.Match(path); ok {
				return routeMatch{rt, params}, true
			}
		}
		return routeMatch{}, false
	})
}

// entry is a client of a route before its WebSocket is open.
type entry struct {
	routeMatch
	reservation *hub.Reservation
	settings    *channels.Settings
	subs        []relay.Subscription
	targets     *channels.Targets
	opening     *webhttp.Opening // nil without a backend
	door        *doorRequest     // nil for a WebSocket
	release     func()           // of the route's reservation
	greeting    []byte
	fetch       *http.Request // for the first frame; nil without one
	socket      *channels.Socket
	session     *hub.Session
	client      *channels.Client
	function    *functionClient // nil without a function
}

// groups yields the names of the groups that the client joins.
func (e *entry) groups(yield func(string) bool) {
	for i := range e.subs {
		if !yield(e.subs[i].Group) {
			return
		}
	}
}

// cancel returns the reservations.
func (e *entry) cancel() {
	e.release()
	e.reservation.Release()
}

// upgradeRoute is [Handler.upgrade] for a client of a route. Its groups are authorized before the upgrade, as in a
// consumer that closes in connect().
func (h *Handler) upgradeRoute(w http.ResponseWriter, r *http.Request, m routeMatch) {
	r, span := telemetry.StartUpgrade(r)
	defer span.End()
	e := &entry{routeMatch: m, reservation: h.admit(w, r)}
	if e.reservation == nil {
		return
	}
	switch h.authenticate(w, r, e.reservation, m.route.auth) {
	case loginRejected:
		return
	case tokenAwaited:
		h.awaitRouteToken(w, r, e)
		return
	}
	if err := h.authorizeRoute(r, e); err != nil {
		h.reject(w, r, groupRejection(r, e.reservation, err))
		e.reservation.Release()
		return
	}
	if err := h.connectFunction(r, e); err != nil {
		h.reject(w, r, groupRejection(r, e.reservation, err))
		e.cancel()
		return
	}
	if !h.openBackend(w, r, e) {
		e.cancel()
		return
	}
	if e.opening != nil {
		h.openBehind(r, e)
	} else if err := h.openRoute(r, e); err != nil {
		h.reject(w, r, groupRejection(r, e.reservation, err))
		return
	}
	if conn := h.acceptRoute(w, r, e); conn != nil {
		conn.Attend(h.serveRoute(conn, span, e))
	}
}

// awaitRouteToken serves a client that sends its token in the first message.
func (h *Handler) awaitRouteToken(w http.ResponseWriter, r *http.Request, e *entry) {
	conn := h.acceptRoute(w, r, e)
	if conn == nil {
		return
	}
	h.awaitToken(conn, r, e.route.auth, e.reservation, e.route.live.Route.EndLogin, func(r *http.Request) ws.Handler {
		err := h.authorizeRoute(r, e)
		if err == nil {
			if err = h.connectFunction(r, e); err != nil {
				e.release()
			} else {
				err = h.openRoute(r, e)
			}
		}
		if err != nil {
			why := groupRejection(r, e.reservation, err)
			h.record(r, why.reason.LogLevel(), why.reason, why.address, why.err)
			code := relay.ClosePolicy
			if why.status == http.StatusServiceUnavailable {
				code = relay.CloseTryLater
			}
			conn.Close(code, why.message)
			return nil
		}
		conn.SendAnswer(e.greeting, 0)
		return h.serveRoute(conn, trace.SpanFromContext(r.Context()), e)
	})
}

// authorizeRoute reserves a connection of the route, and authorizes the groups of a client.
func (h *Handler) authorizeRoute(r *http.Request, e *entry) (err error) {
	route := e.route.live.Route
	if e.settings = route.Settings(); e.settings == nil { // the configuration is about to be applied
		e.settings = e.route.settings
	}
	if e.release, err = route.Reserve(e.reservation.Identity().Key); err != nil {
		route.Stats.Rejected.Add(1)
		h.app.node.Hub.CountRejection()
		return err
	}
	p := newRouteValues(e.route, e.params, e.reservation.Identity(), r)
	if e.subs, err = p.subscribe(r.Context(), h.app.node.Hub); err == nil {
		e.targets, err = p.targets(&e.settings.Messages, e.subs)
	}
	if f := e.route.first; err == nil && f.fetch != nil {
		if e.fetch, err = f.fetch.request(r, p); err != nil {
			err = &groupError{"of the first frame's URL", true, err}
		}
	}
	if err != nil {
		route.Stats.Rejected.Add(1)
		e.release()
		return err
	}
	e.greeting = e.route.first.greeting(p)
	return nil
}

// groupRejection returns the response to a client that cannot be in the groups of a route.
func groupRejection(r *http.Request, reservation *hub.Reservation, err error) rejection {
	why := rejection{http.StatusForbidden, reject.GroupDenied, reservation.Address, "access denied", err}
	var group *groupError
	var refused *plugins.RefusedError
	switch {
	case errors.As(err, &refused):
		why.status, why.reason, why.message = refused.Status, reject.FunctionRefused, http.StatusText(refused.Status)
	case errors.Is(err, errFunction):
		why.status, why.reason, why.message = http.StatusServiceUnavailable, reject.FunctionFailed, "the function failed"
	case errors.As(err, &group) && group.invalid:
		why.status, why.reason, why.message = http.StatusNotFound, reject.GroupInvalid, "not found"
	case errors.Is(err, relay.ErrDenied):
	case errors.Is(err, channels.ErrTooManyOfUser):
		why.status, why.reason, why.message = http.StatusTooManyRequests, reject.LimitReached, err.Error()
	case errors.Is(err, channels.ErrTooManyConnections):
		why.status, why.reason, why.message = http.StatusServiceUnavailable, reject.LimitReached, err.Error()
	case errors.As(err, new(relay.TooManyGroupsError)):
		why.reason, why.message = reject.LimitReached, err.Error()
	case errors.Is(err, relay.ErrUnauthenticated):
		why.reason, why.message = reject.NotLoggedIn, "not logged in"
	default:
		why.status, why.reason, why.message = http.StatusServiceUnavailable, authFailure(r, err),
			"authorization is unavailable"
	}
	return why
}

// openRoute opens the session of a client and subscribes it, before the upgrade: a page that knows of the open
// connection gets every event from then on, as after a consumer's group_add. An error has ended the session.
func (h *Handler) openRoute(r *http.Request, e *entry) error {
	ctx, route, first := r.Context(), e.route.live.Route, e.route.first
	e.socket = channels.NewSocket(e.door == nil && h.app.config.Compression != nil && ws.WillDeflate(r))
	if e.door != nil {
		h.openDoor(e)
	} else {
		e.session = e.reservation.OpenAs(e.socket, route)
	}
	if e.function != nil {
		e.function.session = e.session
		e.client = route.OpenBehind(e.session, e.function, e.release)
	} else {
		e.client = route.Open(e.session, e.targets, e.release)
	}
	if e.door == nil && first.history > 0 {
		e.session.OptIn()
		for i := range e.subs {
			e.subs[i].Resume = &relay.Resume{Latest: first.history}
		}
	}
	joining, cancel := context.WithTimeout(ctx, routeJoinTimeout)
	defer cancel()
	change, err := e.session.Subscribe(joining, e.subs)
	switch {
	case errors.As(err, new(relay.TooManyGroupsError)) || errors.Is(err, relay.ErrClosed):
		route.Stats.Rejected.Add(1)
		e.client.Ended()
		return err
	case err != nil && ctx.Err() == nil: // the subscription takes effect once the layer is reachable
		h.app.node.Log.Warn("subscription delayed by the channel layer", "route", route.Path, "error", err)
	}
	if e.door != nil || first.history > 0 {
		e.session.SendChange(change, route.EncodeChange)
	}
	return nil
}

// acceptRoute upgrades the connection. It returns nil if the client has gone.
func (h *Handler) acceptRoute(w http.ResponseWriter, r *http.Request, e *entry) *ws.Conn {
	subprotocols := agreed(e.route.Subprotocols, r)
	if name := subprotocolOf(e.reservation.Identity()); name != "" && subprotocols == nil {
		subprotocols = []string{name}
	}
	if e.opening != nil {
		subprotocols = passOpening(w, e.opening)
	}
	options := h.app.node.RouteOptions(h.app.config, e.route.live.Route, e.greeting, subprotocols)
	conn, err := ws.Accept(unwrapTimeouts(w), r, options)
	switch {
	case err == nil:
		return conn
	case e.client != nil:
		e.client.Ended()
	default: // a client that sends its token later
		e.reservation.Release()
	}
	return nil
}

// agreed returns the first subprotocol that a client asks for and a route speaks, nil if there is none: the handshake
// then agrees on none, as Daphne's does.
func agreed(spoken []string, r *http.Request) []string {
	for _, line := range r.Header["Sec-Websocket-Protocol"] {
		for name := range splitList(line) {
			if i := slices.Index(spoken, name); i >= 0 {
				return spoken[i : i+1]
			}
		}
	}
	return nil
}

// serveRoute starts to send events to the client. It returns the receiver of the client's messages.
func (h *Handler) serveRoute(conn *ws.Conn, span trace.Span, e *entry) ws.Handler {
	if span.IsRecording() {
		span.SetAttributes(telemetry.UserAttributes(e.reservation.Identity())...)
	}
	h.app.events.Follow(span)
	if e.opening != nil {
		e.socket.Open(conn)
		return e.client
	}
	e.socket.Bind(conn)
	if e.function != nil {
		e.socket.Release()
		e.function.open()
	} else if !e.route.first.slow() {
		e.socket.Release()
	} else {
		go h.deliverFirst(e)
	}
	return h.withRefresh(e.route.auth, e.session, e.client)
}
