package caddymodule

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/edgerelay/edgerelay/caddymodule/reject"
	"github.com/edgerelay/edgerelay/caddymodule/request"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/protocol/channels"
	"github.com/edgerelay/edgerelay/relay/protocol/webhttp"
	"github.com/edgerelay/edgerelay/relay/transport/sse"
)

// retiredBy returns a channel that is closed when the server of a context begins to shut down, as at a reload.
func retiredBy(ctx caddy.Context) <-chan struct{} {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return ctx.Done()
	}
	retired := make(chan struct{})
	server.RegisterOnShutdown(sync.OnceFunc(func() { close(retired) }))
	return retired
}

// holdRoute returns the route of a request whose response the site may have held.
func (h *Handler) holdRoute(r *http.Request) (*Route, bool) {
	if !h.hasBackends {
		return nil, false
	}
	m, ok := h.matchRoute(r)
	return m.route, ok && m.route.site != nil
}

// serveHold has the next handler answer a request, and holds the response if the site asks for that (GRIP).
func (h *Handler) serveHold(w http.ResponseWriter, r *http.Request, rt *Route, next caddyhttp.Handler) error {
	rt.site.SignRequest(r.Header)
	body := &headBody{ReadCloser: r.Body, limit: webhttp.MaxRepeatedBody}
	hasBody := r.Body != nil && r.Body != http.NoBody
	if hasBody {
		r.Body = body
	}
	hw, asked := newHoldWriter(w), time.Now()
	if err := next.ServeHTTP(hw, r); err != nil || !hw.held {
		return err
	}
	header := w.Header().Clone()
	clear(w.Header())
	if r.Method == http.MethodHead { // has no body to hold
		webhttp.StripGrip(header)
		return respondHeld(w, hw.status, header, nil)
	}
	address, client := request.ClientAddress(r), webhttp.Client{Scheme: schemeOf(r)}
	if address.IsValid() {
		client.Address = address.Unmap().String()
	}
	var held *webhttp.Holding
	err := errHeldTooLong
	if !hw.tooLong {
		held, err = rt.site.Hold(&webhttp.Answered{
			Request: r, Asked: asked, RequestBody: body.kept, Whole: !hasBody || body.whole(r.ContentLength),
			Status: hw.status, Header: header, Body: hw.body,
		}, client)
	}
	switch {
	case err != nil:
		h.reject(w, r, rejection{http.StatusBadGateway, reject.BackendFailed, address, "bad gateway", err})
		return nil
	case held.Hold == nil:
		return respondHeld(w, held.Status, held.Header, held.Body)
	}
	h.hold(w, r, rt, held.Hold)
	return nil
}

var errHeldTooLong = fmt.Errorf("the response to be held has more than %d bytes; send fewer", webhttp.MaxHeldResponse)

// heldClient is a held client of a route, and the handler of its connection.
type heldClient struct {
	hold    *webhttp.Hold
	route   *channels.Route
	release func()
}

// Ended implements [sse.Handler].
func (c *heldClient) Ended() {
	c.hold.Ended()
	c.release()
	c.route.Stats.Connections.Add(-1)
}

// hold reserves capacity for a client, and holds its response.
func (h *Handler) hold(w http.ResponseWriter, r *http.Request, rt *Route, hold *webhttp.Hold) {
	client, session := h.admitHeld(w, r, rt, hold)
	if client == nil {
		hold.Abandon()
		rt.live.Route.Stats.Rejected.Add(1)
		return
	}
	hold.Join(r.Context(), session)
	if !h.app.node.Routes.Has(rt.live.Key) { // the sessions that a reload closes may lack this one
		hold.Close(relay.CloseRestart, channels.RemovedReason)
	}
	if hold.Waits() {
		a := hold.Await(r.Context(), h.retired)
		if a == nil || !a.Stream {
			defer client.Ended()
			if a != nil {
				_ = respondHeld(w, a.Status, a.Header, a.Body) // the client may have gone
			}
			return
		}
	}
	h.holdStream(w, r, client)
}

// admitHeld reserves capacity, and opens the session. The site has answered the client, so that it needs no login here.
// A rejection returns nil.
func (h *Handler) admitHeld(
	w http.ResponseWriter, r *http.Request, rt *Route, hold *webhttp.Hold,
) (*heldClient, *hub.Session) {
	address := request.ClientAddress(r)
	if err := h.app.node.AwaitConfig(r.Context()); err != nil {
		h.reject(w, r, rejection{http.StatusServiceUnavailable, reject.NotReady, address, "relay is not ready", err})
		return nil, nil
	}
	reservation := h.reserve(w, r)
	if reservation == nil {
		return nil, nil
	}
	reservation.Door = relay.DoorHold
	release, err := rt.live.Route.Reserve("")
	if err == nil {
		err = reservation.Identify(relay.Identity{ID: "null", Kind: relay.Anybody, Credentials: relay.OwnSession{}})
	}
	if err != nil {
		h.reject(w, r, groupRejection(r, reservation, err))
		reservation.Release()
		return nil, nil
	}
	stats := rt.live.Route.Stats
	stats.Connections.Add(1)
	stats.Opened.Add(1)
	return &heldClient{hold, rt.live.Route, release}, reservation.OpenAs(hold, rt.site.Holds())
}

// heldForm is the form of held streams, whose bytes are the site's.
var heldForm sse.Form

// holdStream begins a client's stream.
func (h *Handler) holdStream(w http.ResponseWriter, r *http.Request, client *heldClient) {
	head := client.hold.Head()
	if !head.Stream {
		defer client.Ended()
		_ = respondHeld(w, head.Status, head.Header, head.Body) // the client may have gone
		return
	}
	for name, values := range head.Header {
		w.Header()[name] = values
	}
	w.Header().Del("Content-Length")
	w.Header().Set("X-Accel-Buffering", "no") // for an nginx in front
	age := h.app.eventStreamAge()
	h.tuneConnection(r)
	conn, err := h.app.node.Streams.Accept(unwrapTimeouts(w), r, sse.Options{
		Form: &heldForm, Status: head.Status, First: head.Body, Lifetime: age/2 + rand.N(age/2+1), Retired: h.retired,
		RetireWithin: retireWithin, Cut: cutOf(r),
	})
	if err != nil {
		client.Ended()
		return
	}
	client.hold.Start(heldStream{conn})
	conn.Attend(client)
}

// heldStream is the connection of a held stream.
type heldStream struct{ *sse.Conn }

// Append implements [webhttp.Stream].
func (s heldStream) Append(b []byte, limit int) bool { return s.Conn.Conn.SendAnswer(b, limit) }

// End implements [webhttp.Stream].
func (s heldStream) End() { s.Close(relay.CloseNormal, "") }

// respondHeld writes a whole response.
func respondHeld(w http.ResponseWriter, status int, header http.Header, body []byte) error {
	for name, values := range header {
		w.Header()[name] = values
	}
	if w.Header()["Content-Type"] == nil {
		w.Header()["Content-Type"] = nil // net/http would guess
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if status == http.StatusNoContent || status == http.StatusNotModified {
		w.Header().Del("Content-Length")
		body = nil
	}
	w.WriteHeader(status)
	_, err := w.Write(body)
	return err
}
