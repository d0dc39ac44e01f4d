package webhttp

import (
	"context"
	"net/http"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// MaxRepeatedBody is the greatest length of a request's body that is kept for a repetition, in bytes.
const MaxRepeatedBody = 32 << 10

// MaxHeldResponse is the greatest length of a response that can be held, in bytes.
const MaxHeldResponse = maxResponse

// Holding is the response of a site to a client's request. Hold is nil if the response is to be sent as it is.
type Holding struct {
	Hold   *Hold
	Status int
	Header http.Header
	Body   []byte
}

// Answered is a client's request, and the response of the site with an instruction; see [HasInstruct].
type Answered struct {
	Request *http.Request
	// Asked is the time at which the site got the request.
	Asked time.Time
	// RequestBody is the body of the request, nil without one; Whole is set if it is complete.
	RequestBody []byte
	Whole       bool
	Status      int
	Header      http.Header
	Body        []byte
}

// Hold reads the instruction of a response. The error is for the operator; the client gets 502. A caller that gets a
// Hold opens a session with it as its socket and the format Holds, and calls [Hold.Join].
func (b *Backend) Hold(a *Answered, client Client) (*Holding, error) {
	in, err := parseInstruct(a.Status, a.Header, a.Body)
	if err != nil {
		b.failed(err)
		return nil, err
	}
	if in.mode == noHold && in.next == "" {
		body, err := in.content()
		if err != nil {
			b.failed(err)
		}
		return &Holding{Status: in.status, Header: in.header, Body: body}, err
	}
	c := b.current.Load()
	h := &Hold{backend: b, asked: a.Asked, request: keepPlace(a.Request, client.Scheme)}
	if in.mode == holdResponse && a.Whole {
		kept, ok := keep(a.Request, client.Address, client.Scheme, c.only)
		if ok {
			h.original = &original{kept, a.Request.Method, a.Request.Header.Get("Content-Type"), a.RequestBody}
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone, err = h.resolve(in.gone); err == nil {
		err = h.adopt(in)
	}
	if err != nil {
		b.failed(err)
		return nil, err
	}
	h.response = in // until it is sent
	b.Stats.Held.Add(1)
	return &Holding{Hold: h}, nil
}

// Abandon ends a Hold without a session.
func (h *Hold) Abandon() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.backend.Stats.Held.Add(-1)
	for i := range h.channels {
		h.backend.holds.leave(h.channels[i].group)
	}
	h.channels = nil
	h.finish()
}

// Join subscribes a Hold's session, before the client gets any byte: a page that knows of the open stream gets every
// item from then on.
func (h *Hold) Join(ctx context.Context, session relay.Session) {
	h.session = session
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	h.subscribe(ctx)
}

// Waits reports whether the client waits for its response, so that [Hold.Await] is to be called. Otherwise its stream
// begins, by [Hold.Head] and [Hold.Start].
func (h *Hold) Waits() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.waits()
}

// HeldAnswer is the response for a client that has waited.
type HeldAnswer struct {
	// Stream is set if the site now wants to hold a stream, by [Hold.Head] and [Hold.Start].
	Stream bool
	Status int
	Header http.Header
	Body   []byte
}

// Await waits for the response. After the end of retired, it is the site's own response. The result is nil if ctx has
// ended.
func (h *Hold) Await(ctx context.Context, retired <-chan struct{}) *HeldAnswer {
	h.mu.Lock()
	if h.phase == starting {
		h.resume(0, true)
	}
	answers := h.answers
	h.mu.Unlock()
	for {
		select {
		case a := <-answers:
			return a
		case <-ctx.Done():
			return nil
		case <-retired:
			retired = nil
			h.Close(relay.CloseRestart, "")
		}
	}
}

// Head returns the head of the stream's response, and the first bytes of its body.
func (h *Hold) Head() *HeldAnswer {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.failed:
		return &HeldAnswer{Status: http.StatusBadGateway}
	case h.phase == over: // the relay has ended the session meanwhile
		return &HeldAnswer{Status: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"5"}}}
	}
	body, err := h.response.content()
	if err != nil {
		h.failHold(err)
		r := reject(http.StatusBadGateway, err)
		return &HeldAnswer{Status: r.Status, Header: r.Header, Body: r.Body}
	}
	return &HeldAnswer{Stream: true, Status: h.response.status, Header: h.response.header, Body: body}
}

// Start lets items through to a stream whose head and first bytes have been written.
func (h *Hold) Start(out Stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.out = out
	if h.phase == over {
		out.End()
		return
	}
	content := len(h.response.body)
	h.response = nil
	h.resume(content, true)
}

// Holds is the format of the sessions of held clients.
func (b *Backend) Holds() *HoldFormat { return &b.holds }
