package caddymodule

import (
	"context"
	"errors"
	"net/http"

	"github.com/edgerelay/edgerelay/caddymodule/reject"
	"github.com/edgerelay/edgerelay/caddymodule/request"
	"github.com/edgerelay/edgerelay/caddymodule/telemetry"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/protocol/awx"
	"github.com/edgerelay/edgerelay/relay/protocol/channels"
)

// doorPath returns the route of a request, and whether its path is one of the relay's for clients without a WebSocket.
// The paths of routes with a backend are the site's: it may hold its responses. Functions speak to WebSockets only,
// see refuseFunction.
func (h *Handler) doorPath(r *http.Request) (m routeMatch, ours bool) {
	m, routed := h.matchRoute(r)
	if routed {
		return m, m.route.backend() == nil && m.route.Function == nil
	}
	return m, h.matches(r)
}

// errFunctionDoor is the error of a client without a WebSocket on the path of a function.
var errFunctionDoor = errors.New("the function of this path gets messages from its clients: open a WebSocket")

// refuseFunction answers a client that asks for an event stream or a long poll on the path of a function, if the site
// has such a door. It returns false for other paths.
func (h *Handler) refuseFunction(w http.ResponseWriter, r *http.Request, open bool) bool {
	m, routed := h.matchRoute(r)
	if !open || !routed || m.route.Function == nil {
		return false
	}
	h.allowReading(w, r)
	h.reject(w, r, rejection{
		http.StatusNotAcceptable, reject.InvalidRequest, request.ClientAddress(r), errFunctionDoor.Error(), errFunctionDoor,
	})
	return true
}

// enter lets a client without a WebSocket in: it checks the origin and the user, as for a WebSocket. A rejection
// releases the reservation and returns false. The route is nil for clients of AWX's protocol.
func (h *Handler) enter(
	w http.ResponseWriter, r *http.Request, q *doorRequest, reservation *hub.Reservation, rt *Route,
) bool {
	auth := h.auth
	if rt != nil {
		auth = rt.auth
	}
	if why := h.identify(r, q, reservation, auth); why.status != 0 {
		h.reject(w, r, why)
		reservation.Release()
		return false
	}
	return true
}

// identify authenticates a client and reserves capacity for the user's connection. The status is 0 for a client that is
// let in.
func (h *Handler) identify(r *http.Request, q *doorRequest, reservation *hub.Reservation, auth clientAuth) rejection {
	address := reservation.Address
	if !sameSite(h.app.Origins, r) {
		return rejection{http.StatusForbidden, reject.OriginDenied, address, "origin not allowed", originError(r)}
	}
	id, err := telemetry.Authenticate(auth.Authorizer, r)
	if errors.Is(err, relay.ErrTokenAwaited) {
		id, err = h.bodyToken(r.Context(), q, auth)
	}
	reservation.EndHandshake()
	switch {
	case errors.Is(err, relay.ErrUnauthenticated):
		return rejection{http.StatusUnauthorized, reject.NotLoggedIn, address, "not logged in", loginError(err)}
	case err != nil:
		return rejection{
			http.StatusServiceUnavailable, authFailure(r, err), address, "authentication is unavailable", err,
		}
	}
	if err := reservation.Identify(id); err != nil {
		return rejection{http.StatusTooManyRequests, reject.LimitReached, address, err.Error(), err}
	}
	return rejection{}
}

// bodyToken authenticates a client by the token in the body of its request, where a WebSocket's client sends a first
// message.
func (h *Handler) bodyToken(ctx context.Context, q *doorRequest, auth clientAuth) (relay.Identity, error) {
	t, ok := auth.Authorizer.(relay.TokenAuthorizer)
	if !ok || auth.messages == nil || q.body == nil {
		return relay.Identity{}, relay.ErrUnauthenticated
	}
	token := firstToken(q.body, auth.messages.RefreshMember())
	if token == "" {
		return relay.Identity{}, relay.ErrUnauthenticated
	}
	return t.AuthenticateToken(ctx, token)
}

// sameSite reports whether the page that sends a request may use the relay. A request that a page of another site sends
// without an origin, such as that of a script element, names the relation in Sec-Fetch-Site.
func sameSite(origins []string, r *http.Request) bool {
	if len(r.Header["Origin"]) == 0 {
		switch r.Header.Get("Sec-Fetch-Site") {
		case "", "same-origin", "none":
			return true
		}
		return false
	}
	return allowsOrigin(origins, r)
}

// allowReading lets a page of another origin that may use the relay read the response.
func (h *Handler) allowReading(w http.ResponseWriter, r *http.Request) {
	w.Header().Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" || !allowsOrigin(h.app.Origins, r) {
		return
	}
	w.Header().Set("Access-Control-Allow-Origin", origin)
	w.Header().Set("Access-Control-Allow-Credentials", "true")
}

// isPreflight reports whether a browser asks whether a page of another origin may send a request to one of the doors.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" &&
		r.Header.Get("Origin") != ""
}

// servePreflight answers a preflight request. It returns false if the path is not one of the relay's, or the page may
// not use the relay.
func (h *Handler) servePreflight(w http.ResponseWriter, r *http.Request) bool {
	if _, ours := h.doorPath(r); !ours || !h.app.hasDoor() || !allowsOrigin(h.app.Origins, r) {
		return false
	}
	h.allowReading(w, r)
	w.Header().Set("Access-Control-Allow-Methods", "GET, POST")
	w.Header().Set("Access-Control-Allow-Headers", "Authorization, Cache-Control, Content-Type, Last-Event-ID")
	w.Header().Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// begin reserves capacity for a client at a door, and reads its request. A client whose body is on its way counts as a
// pending handshake, whose number is bounded. It returns nil if it has answered the request.
func (h *Handler) begin(
	w http.ResponseWriter, r *http.Request, door relay.Door, routed bool,
) (*doorRequest, *hub.Reservation) {
	h.allowReading(w, r)
	boundBody(w, r)
	if err := h.app.node.AwaitConfig(r.Context()); err != nil {
		h.reject(w, r, rejection{
			http.StatusServiceUnavailable, reject.NotReady, request.ClientAddress(r), "relay is not ready", err,
		})
		return nil, nil
	}
	if r.Method == http.MethodPost {
		closeAfterAnswer(w, r) // unless the body has come
	}
	reservation := h.reserve(w, r)
	if reservation == nil {
		return nil, nil
	}
	w.Header().Del("Connection")
	reservation.Door = door
	q, err := readDoorRequest(w, r, door, routed, h.app.node.Hub.Limits().FrameSize)
	if err != nil {
		reservation.Release()
		h.reject(w, r, rejection{doorStatus(err), reject.InvalidRequest, reservation.Address, err.Error(), err})
		return nil, nil
	}
	return q, reservation
}

// requestRejection returns the response to a client of AWX's protocol that gets none of its groups.
func requestRejection(r *http.Request, reservation *hub.Reservation, err error) rejection {
	why := groupRejection(r, reservation, err)
	switch {
	case errors.As(err, new(awx.RequestError)):
		why.status, why.reason, why.message = http.StatusForbidden, reject.GroupDenied, err.Error()
	case errors.Is(err, relay.ErrExpired):
		why.status, why.reason, why.message = http.StatusUnauthorized, reject.NotLoggedIn, "login expired"
	}
	return why
}

// openDoor opens the session of a route's client without a WebSocket. The client gets positions, and begins with what
// it asks for.
func (h *Handler) openDoor(e *entry) {
	e.socket.Envelop()
	if payload, _, _ := relay.CutFrame(e.greeting); payload != nil {
		e.greeting = relay.AppendFrame(nil, channels.EnvelopFirst(payload))
	}
	e.session = e.reservation.OpenAs(e.socket, e.route.live.Route.Enveloped(awx.Protocol{}))
	e.session.OptIn()
	resume := e.door.resume(e.route.first.history)
	for i := range e.subs {
		e.subs[i].Resume = resume(e.subs[i].Group)
	}
}
