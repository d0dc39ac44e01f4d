package caddymodule

import (
	"errors"
	"net/http"

	"github.com/edgerelay/edgerelay/caddymodule/reject"
	"github.com/edgerelay/edgerelay/caddymodule/request"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/transport/ws"
)

// matchPeer returns the dialect of an endpoint of the backplane.
func (h *Handler) matchPeer(r *http.Request) (backplane.Dialect, bool) {
	if h.app.Backplane == nil {
		return "", false
	}
	return request.MatchOriginal(r, backplane.Endpoint)
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
