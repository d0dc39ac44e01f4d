package caddymodule

import (
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// serveOther serves requests of clients that cannot, or do not want to, open a WebSocket: event streams, long polls,
// and responses that the site lets the relay hold. It reports whether it has answered the request.
func (h *Handler) serveOther(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) (served bool, err error) {
	rt, held := h.holdRoute(r)
	switch {
	case held: // the site decides whether the response is a stream, and about pages of other sites
		return true, h.serveHold(w, r, rt, next)
	case isPreflight(r) && h.servePreflight(w, r):
		return true, nil
	case isStream(r):
		if h.refuseFunction(w, r, h.app.hasEventStreams()) || h.serveStream(w, r) {
			return true, nil
		}
	case isPoll(r):
		if h.refuseFunction(w, r, h.app.hasLongPolls()) || h.servePoll(w, r) {
			return true, nil
		}
	}
	return false, nil
}

// defaultEventStreamAge is the greatest age of an event stream that depends on its server.
const defaultEventStreamAge = 15 * time.Minute

func (a *App) hasEventStreams() bool { return a.EventStreams == nil || *a.EventStreams }

func (a *App) hasLongPolls() bool { return a.LongPolls == nil || *a.LongPolls }

// hasDoor reports whether clients can connect without WebSockets.
func (a *App) hasDoor() bool { return a.hasEventStreams() || a.hasLongPolls() }

func (a *App) eventStreamAge() time.Duration {
	if a.EventStreamAge == nil {
		return defaultEventStreamAge
	}
	return time.Duration(*a.EventStreamAge)
}
