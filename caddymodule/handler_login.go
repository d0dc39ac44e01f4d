package caddymodule

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/edgerelay/edgerelay/caddymodule/reject"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/protocol/awx"
	"github.com/edgerelay/edgerelay/relay/transport/ws"
)

// rejectLogin answers a client that is not logged in, as the setting unauthenticated demands. It reports whether it
// opened a WebSocket, which then holds the reservation. The route is nil for clients of AWX's protocol.
func (h *Handler) rejectLogin(
	w http.ResponseWriter, r *http.Request, reservation *hub.Reservation, rt *Route, err error,
) bool {
	err = loginError(err)
	if h.rejectsLogin(rt) {
		h.reject(w, r, rejection{
			http.StatusForbidden, reject.NotLoggedIn, reservation.Address, "not logged in", err,
		})
		return false
	}
	h.record(r, slog.LevelInfo, reject.NotLoggedIn, reservation.Address, err)
	options := h.app.node.WSOptions(h.app.config, nil)
	if rt != nil {
		options = h.app.node.RouteOptions(h.app.config, rt.live.Route, nil, agreed(rt.Subprotocols, r))
	}
	conn, err := ws.Accept(w, r, options)
	if err != nil {
		return false
	}
	if rt == nil {
		awx.Protocol{}.EndLogin(conn)
	} else {
		conn.Close(rt.settings.UnauthenticatedCode, "not logged in")
	}
	conn.Attend(rejectedLogin{reservation}) // until the client answers the close frame
	return true
}

// rejectsLogin reports whether clients that are not logged in get a response with 403.
func (h *Handler) rejectsLogin(rt *Route) bool {
	if rt != nil {
		return rt.settings.UnauthenticatedCode == 0
	}
	return h.app.Unauthenticated == "reject" // as AWX does since 23.8
}

var errNotLoggedIn = errors.New("the client is not logged in")

// rejectedLogin is the receiver of a WebSocket that is being closed because the client is not logged in. It ignores
// messages and releases the reservation at the end.
type rejectedLogin struct{ reservation *hub.Reservation }

func (rejectedLogin) Message(bool, []byte) {}

func (l rejectedLogin) Ended() { l.reservation.Release() }

// csrfToken returns the handshake's cookie csrftoken. Of several cookies the last one counts, as in Django.
func csrfToken(r *http.Request) string {
	token := ""
	for _, c := range r.CookiesNamed("csrftoken") {
		token = strings.Clone(c.Value)
	}
	return token
}
