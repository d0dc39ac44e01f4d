package webhttp

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/edgerelay/edgerelay/relay"
)

// maxRejection is the greatest length of the body of a rejected handshake that the client gets, in bytes.
const maxRejection = 100_000

// Rejection is the reason for which a handshake leads to no WebSocket.
type Rejection struct {
	// Status, Header and Body are the response for the client.
	Status int
	Header http.Header
	Body   []byte
	// Err is the reason for the operator. It is nil if the backend itself has rejected the handshake.
	Err error
}

// Opening is a handshake that the backend has accepted. It becomes a connection by [Opening.Conn], or ends by
// [Opening.Abandon].
type Opening struct {
	// Header are the headers of the backend's answer for the client, such as Set-Cookie.
	Header http.Header
	// Subprotocol is the subprotocol that the backend has chosen of those that the client speaks; or empty.
	Subprotocol string

	conn   *Conn
	answer *answer
	events []event
}

// Client is the client of a handshake.
type Client struct {
	// Address is the client's address for the header X-Forwarded-For, empty if unknown.
	Address string
	// Scheme is http or https, for the header X-Forwarded-Proto.
	Scheme string
	// Key identifies the user or the address in the fair queue.
	Key string
}

// Open asks the backend whether it accepts a handshake, by the event OPEN. Exactly one of the results is nil. A request
// that fails is not repeated; the page will try again.
func (b *Backend) Open(r *http.Request, client Client) (o *Opening, rejected *Rejection) {
	// A connection counts from here to Ended or Abandon: Backend.Close waits for handshakes as well.
	b.running.begin()
	defer func() {
		if o == nil {
			b.running.end()
		}
	}()
	c := b.current.Load()
	kept, ok := keep(r, client.Address, client.Scheme, c.only)
	if !ok {
		return nil, reject(http.StatusRequestHeaderFieldsTooLarge, errors.New("the handshake's headers are too long"))
	}
	conn := &Conn{backend: b, handshake: kept, key: strings.Clone(client.Key), id: newID()}
	a, f := b.exchange(r.Context(), &question{
		class: classOpen, key: client.Key, body: appendEvent(nil, eventOpen, nil), id: conn.connectionID(), handshake: kept,
	})
	if f != nil {
		if f.unknown { // the backend may have accepted
			conn.abandon()
		}
		return nil, reject(f.status(), f)
	}
	if a.status < http.StatusOK { // no final answer, and no valid status of a response
		b.failed(statusError(a))
		return nil, reject(http.StatusBadGateway, statusError(a))
	}
	if a.status != http.StatusOK || !IsEvents(a.header.Get("Content-Type")) {
		b.Stats.Rejected.Add(1)
		h := passed(a.header)
		if t := a.header.Values("Content-Type"); t != nil {
			h["Content-Type"] = t
		}
		return nil, &Rejection{Status: a.status, Header: h, Body: a.body[:min(len(a.body), maxRejection)]}
	}
	opened := &Opening{Header: passed(a.header), conn: conn, answer: a}
	if err := opened.accept(r); err != nil {
		b.failed(err)
		return nil, reject(http.StatusBadGateway, err)
	}
	b.Stats.Opened.Add(1)
	return opened, nil
}

// status is the HTTP status of a handshake that the failure ends.
func (f *failure) status() int {
	switch {
	case f.unknown && f.code == relay.CloseTryLater:
		return http.StatusGatewayTimeout
	case f.code == relay.CloseTryLater && !f.away:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadGateway
}

func reject(status int, err error) *Rejection {
	h := http.Header{"Content-Type": {"text/plain; charset=utf-8"}}
	if status == http.StatusServiceUnavailable {
		h["Retry-After"] = []string{"5"}
	}
	return &Rejection{Status: status, Header: h, Body: []byte(http.StatusText(status) + "\n"), Err: err}
}

var errNoOpen = errors.New("the answer to OPEN does not begin with OPEN; accept the WebSocket in the view")

// accept reads the backend's answer to OPEN.
func (o *Opening) accept(r *http.Request) (err error) {
	if o.events, err = parseEvents(o.answer.body); err != nil {
		return err
	}
	if len(o.events) == 0 || o.events[0].kind != eventOpen {
		return errNoOpen
	}
	o.events = o.events[1:]
	c, h := o.conn, o.answer.header
	c.prefix, c.grip = messagePrefix(h)
	if c.meta, err = updateMeta(nil, h); err != nil {
		return err
	}
	c.setKeepAlive(h)
	chosen := strings.TrimSpace(h.Get("Sec-WebSocket-Protocol"))
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		asked := strings.Split(line, ",")
		if slices.ContainsFunc(asked, func(p string) bool { return strings.TrimSpace(p) == chosen }) {
			o.Subprotocol = chosen
		}
	}
	return nil
}

// Conn returns the connection for the client's socket. The caller opens a session with it as the session's socket and
// the backend's [Format], calls [Conn.Start], and hands it the client's messages.
func (o *Opening) Conn(socket relay.Socket) *Conn {
	o.conn.Socket = socket
	return o.conn
}

// Abandon tells the backend that the client is gone, because the WebSocket could not be opened. It does not wait.
func (o *Opening) Abandon() {
	defer o.conn.backend.running.end()
	o.conn.abandon()
}

func (c *Conn) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phase = open.after(clientLeaves)
	c.wake()
}

// Start begins a connection, best before the client has the response to the handshake, with a socket that keeps frames
// back: then the client gets every event from the moment at which it knows of the open connection. granted are
// subscriptions that the connection keeps in any case. The client gets the messages of the backend's answer to OPEN,
// even if they are longer than its queue. ctx bounds the wait for the channel layer; later, subscriptions take effect by
// themselves.
func (o *Opening) Start(ctx context.Context, session relay.Session, granted []relay.Subscription) {
	c := o.conn
	c.session = session
	c.backend.Stats.Connections.Add(1)
	c.mu.Lock()
	for _, s := range granted {
		c.groups = append(c.groups, groupEntry{name: s.Group, granted: true})
	}
	c.phase = opening.after(backendAccepts)
	c.running = true // the answer is applied before messages are sent
	c.mu.Unlock()
	if len(granted) > 0 {
		if f := c.subscribe(ctx); f != nil {
			c.fail(f)
		}
	}
	c.applyEvents(o.events, output{joining: ctx})
	c.rest()
	o.events, o.answer = nil, nil
}

// newID returns a random id.
func newID() (id [16]byte) {
	_, _ = rand.Read(id[:]) // never fails
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

// connectionID returns the value of the header Connection-Id: a random UUID (RFC 9562 section 5.4).
func (c *Conn) connectionID() string {
	h := hex.EncodeToString(c.id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
