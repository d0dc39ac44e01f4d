package caddymodule

import (
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/telemetry"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/protocol/channels"
	"github.com/edgerelay/edgerelay/relay/transport/poll"
)

// answerTimeout bounds the time in which a client takes its answer.
const answerTimeout = 30 * time.Second

// isPoll reports whether a request is a long poll.
func isPoll(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodPost) &&
		strings.Contains(r.URL.RawQuery, "wait=") && r.URL.Query().Has("wait")
}

// servePoll serves a long poll. It returns false if the path is not one of the relay's.
func (h *Handler) servePoll(w http.ResponseWriter, r *http.Request) bool {
	m, ours := h.doorPath(r)
	if !ours || !h.app.hasLongPolls() {
		return false
	}
	w.Header().Set("Cache-Control", "no-store")
	q, reservation := h.begin(w, r, relay.DoorLongPoll, m.route != nil)
	if q == nil {
		return true
	}
	r, span := telemetry.StartUpgrade(r)
	defer span.End()
	if !h.enter(w, r, q, reservation, m.route) {
		return true
	}
	h.tuneConnection(r)
	socket := poll.New(h.app.node.Hub.Limits().QueuePerConnection)
	if m.route != nil {
		e := &entry{routeMatch: m, reservation: reservation, door: q}
		if !h.enterRoute(w, r, e) {
			return true
		}
		defer e.client.Ended()
		socket.Expect(len(e.subs))
		e.socket.Bind(socket)
		e.socket.Release()
		h.forbidTransform(w, e.groups)
	} else {
		session, err := h.openAWX(r, q, span, reservation, socket, false)
		if err != nil {
			h.reject(w, r, requestRejection(r, reservation, err))
			return true
		}
		defer session.Close()
		h.forbidTransform(w, q.awx.Names())
	}
	frames := socket.Wait(r.Context(), q.wait, h.retired)
	writePoll(w, r, frames)
	return true
}

// forbidTransform keeps Caddy's encode and caches from compressing an answer with events that the relay must not
// compress.
func (h *Handler) forbidTransform(w http.ResponseWriter, groups iter.Seq[string]) {
	for group := range groups {
		if !h.app.node.Hub.MayCompress(group) {
			w.Header().Set("Cache-Control", "no-store, no-transform")
			return
		}
	}
}

// writePoll answers a long poll.
func writePoll(w http.ResponseWriter, r *http.Request, frames []byte) {
	const begin, end = `{"frames":[`, `]}`
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(begin)+len(frames)+len(end)))
	body := make([]byte, 0, len(begin)+len(frames)+len(end))
	body = append(append(append(body, begin...), frames...), end...)
	if stuck := cutOf(r); stuck != nil { // an HTTP/2 server waits for the TCP connection, whatever the deadline
		defer time.AfterFunc(answerTimeout+answerTimeout/4, stuck).Stop()
	}
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(answerTimeout)) // not supported by every writer
	if _, err := w.Write(body); err == nil && control.Flush() == nil {
		_ = control.SetWriteDeadline(time.Time{}) // other requests may follow on the connection
	}
}

var _ relay.Socket = (*channels.Socket)(nil)
