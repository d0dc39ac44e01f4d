package caddymodule

import (
	"math/rand/v2"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/edgerelay/edgerelay/caddymodule/telemetry"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/protocol/awx"
	"github.com/edgerelay/edgerelay/relay/protocol/channels"
	"github.com/edgerelay/edgerelay/relay/protocol/eventstream"
	"github.com/edgerelay/edgerelay/relay/transport/sse"
)

// retireWithin is the time over which streams over HTTP/2 and HTTP/3 end after a reload.
const retireWithin = 5 * time.Second

// The forms of event streams, which all streams of the process share.
var (
	plainStream  = streamForm(eventstream.Plain)
	framedStream = streamForm(eventstream.Framed)
	bareStream   = streamForm(eventstream.Bare)
)

func streamForm(payload func(dst []byte, text bool, frame []byte) []byte) *sse.Form {
	return &sse.Form{
		Payload: payload, Heartbeat: []byte(eventstream.Heartbeat), Interval: eventstream.Interval,
		End: func(code int, reason string) []byte {
			return eventstream.End(code, reason, reason == sse.RenewReason)
		},
	}
}

// form returns the form of a client's stream.
func (q *doorRequest) form() *sse.Form {
	switch {
	case !q.frames:
		return plainStream
	case q.hasIDs():
		return framedStream
	}
	return bareStream
}

// isStream reports whether a request asks for an event stream.
func isStream(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodPost) && accepts(r, "text/event-stream")
}

// serveStream serves an event stream. It returns false if the path is not one of the relay's. Over HTTP/1.1 it returns
// as soon as the stream is open.
func (h *Handler) serveStream(w http.ResponseWriter, r *http.Request) bool {
	m, ours := h.doorPath(r)
	if !ours || !h.app.hasEventStreams() {
		return false
	}
	q, reservation := h.begin(w, r, relay.DoorEventStream, m.route != nil)
	if q == nil {
		return true
	}
	if handler, conn := h.openStream(w, r, q, reservation, m); conn != nil {
		conn.Attend(handler)
	}
	return true
}

// openStream checks the origin, the user and the groups, in this order, and begins the stream. It returns nil if
// it has answered the request.
func (h *Handler) openStream(
	w http.ResponseWriter, r *http.Request, q *doorRequest, reservation *hub.Reservation, m routeMatch,
) (sse.Handler, *sse.Conn) {
	r, span := telemetry.StartUpgrade(r)
	defer span.End()
	if !h.enter(w, r, q, reservation, m.route) {
		return nil, nil
	}
	if m.route != nil {
		return h.openRouteStream(w, r, q, &entry{routeMatch: m, reservation: reservation, door: q})
	}
	socket := channels.NewSocket(false)
	session, err := h.openAWX(r, q, span, reservation, socket, !q.frames)
	if err != nil {
		h.reject(w, r, requestRejection(r, reservation, err))
		return nil, nil
	}
	conn := h.acceptStream(w, r, q, socket, q.awx.Groups() > 1, socket.Held())
	if conn == nil {
		session.Close()
		return nil, nil
	}
	socket.Release()
	return endedSession{session}, conn
}

// openAWX opens the session of a client of AWX's protocol, and subscribes it before the response. With strict, a client
// that gets none of its groups is rejected. An error has ended the session.
func (h *Handler) openAWX(
	r *http.Request, q *doorRequest, span trace.Span, reservation *hub.Reservation, socket relay.Socket, strict bool,
) (*hub.Session, error) {
	node, id := h.app.node, reservation.Identity()
	session := reservation.Open(socket)
	client := &awx.Client{
		Shared: &node.AWX, Session: session, CSRFToken: csrfToken(r), Trace: telemetry.TraceMessages(span, id),
		Positions: true,
	}
	session.OptIn()
	if span.IsRecording() {
		span.SetAttributes(telemetry.UserAttributes(id)...)
	}
	h.app.events.Follow(span)
	if q.frames {
		relay.SendAnswer(socket, awx.Greeting(id), 0)
	}
	if !strict {
		client.Ask(q.awx)
		return session, nil
	}
	if err := client.Begin(q.awx, true); err != nil {
		session.Close()
		return nil, err
	}
	return session, nil
}

// openRouteStream is openStream for a client of a route.
func (h *Handler) openRouteStream(
	w http.ResponseWriter, r *http.Request, q *doorRequest, e *entry,
) (sse.Handler, *sse.Conn) {
	if !h.enterRoute(w, r, e) {
		return nil, nil
	}
	first := e.greeting
	if !e.route.first.slow() {
		first = append(first, e.socket.Held()...)
	}
	conn := h.acceptStream(w, r, q, e.socket, len(e.subs) > 1, first)
	if conn == nil {
		e.client.Ended()
		return nil, nil
	}
	if span := trace.SpanFromContext(r.Context()); span.IsRecording() {
		span.SetAttributes(telemetry.UserAttributes(e.reservation.Identity())...)
		h.app.events.Follow(span)
	}
	if !e.route.first.slow() {
		e.socket.Release()
	} else {
		go h.deliverFirst(e)
	}
	return e.client, conn
}

// enterRoute authorizes the groups of a client of a route and opens its session. It returns false if it has answered
// the request.
func (h *Handler) enterRoute(w http.ResponseWriter, r *http.Request, e *entry) bool {
	if err := h.authorizeRoute(r, e); err != nil {
		h.reject(w, r, groupRejection(r, e.reservation, err))
		e.reservation.Release()
		return false
	}
	if err := h.openRoute(r, e); err != nil {
		h.reject(w, r, groupRejection(r, e.reservation, err))
		return false
	}
	return true
}

// acceptStream answers the request, and gives the socket its connection. The first frames leave together with the
// response. It returns nil if the client has gone.
func (h *Handler) acceptStream(
	w http.ResponseWriter, r *http.Request, q *doorRequest, socket *channels.Socket, several bool, first []byte,
) *sse.Conn {
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-cache, no-transform")
	header.Set("X-Accel-Buffering", "no")
	age := h.app.eventStreamAge()
	options := sse.Options{
		Form: q.form(), First: eventstream.Begin(q.padding), Frames: first,
		Lifetime: age/2 + rand.N(age/2+1), Retired: h.retired, RetireWithin: retireWithin,
		Cut: cutOf(r),
	}
	if several && q.hasIDs() {
		options.Rewrite = eventstream.NewPlaces(q.places).Rewrite
	}
	h.tuneConnection(r)
	conn, err := h.app.node.Streams.Accept(unwrapTimeouts(w), r, options)
	if err != nil {
		return nil
	}
	socket.Bind(conn)
	return conn
}

// endedSession closes a session at the end of its connection.
type endedSession struct{ session *hub.Session }

// Ended implements [sse.Handler].
func (e endedSession) Ended() { e.session.Close() }
