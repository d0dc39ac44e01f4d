package sse

import (
	"errors"
	"net"
	"net/http"
	"net/textproto"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/edgerelay/edgerelay/relay/transport/netpoll"
)

// unackedTimeout is the time after which the kernel ends a connection whose bytes, such as a heartbeat, the client has
// not acknowledged, unless the poller has a time of its own.
const unackedTimeout = 60 * time.Second

// Server accepts connections. All methods may be called concurrently.
type Server struct {
	poller *netpoll.Poller
	beats  beats
}

// NewServer returns a server whose connections a poller watches.
func NewServer(p *netpoll.Poller) *Server { return &Server{poller: p} }

// Options are the options of [Server.Accept].
type Options struct {
	// Form is that of all connections of the kind. Required.
	Form *Form
	// Status is the response's status code; 0 is 200.
	Status int
	// First are the first bytes of the response's body. They leave together with the head.
	First []byte
	// Frames are encoded frames that follow First in the same write.
	Frames []byte
	// Rewrite, unless nil, appends the bytes that this client gets in place of bytes of the form to dst. It is called in
	// the order of the bytes, and calls do not overlap. The bytes are whole results of Form.Payload.
	Rewrite func(dst, shared []byte) []byte
	// Lifetime, over HTTP/2 and HTTP/3, is the time after which the relay ends the response with [relay.CloseRestart] and
	// RenewReason; 0: never.
	Lifetime time.Duration
	// Retired, over HTTP/2 and HTTP/3, ends responses as Lifetime does: when it is closed, within RetireWithin. The server
	// that has accepted the request waits for that. Nil: never.
	Retired      <-chan struct{}
	RetireWithin time.Duration
	// Cut, over HTTP/2, closes the TCP connection beneath, if a write does not return although the response is aborted.
	// If nil, the handler waits for the end of the connection.
	Cut func()
}

// RenewReason is the reason with which a response ends that the client asks for again at once.
const RenewReason = "stream renewed; reconnect"

// Accept answers a request with the headers of w, and a body that stays open. The request's body has been read. Over
// HTTP/1.1, the body ends with the connection. An error means that the client has gone; nothing may be written then.
func (s *Server) Accept(w http.ResponseWriter, r *http.Request, o Options) (*Conn, error) {
	if o.Status == 0 {
		o.Status = http.StatusOK
	}
	c := &Conn{form: o.Form, server: s}
	if o.Rewrite != nil {
		c.own = &own{rewrite: o.Rewrite}
	}
	var first []byte
	var err error
	if r.ProtoMajor == 1 {
		first, err = c.takeOver(w, o)
	}
	if r.ProtoMajor != 1 || errors.Is(err, http.ErrNotSupported) {
		err = c.stream(w, r, o)
	}
	if err != nil {
		return nil, err
	}
	c.Touch()
	s.beats.add(c)
	if first = c.appendFirst(first, o); len(first) > 0 {
		c.Conn.SendAnswer(first, 0)
	}
	return c, nil
}

// takeOver takes the connection of a request over HTTP/1.1 over. It returns the first bytes to write.
func (c *Conn) takeOver(w http.ResponseWriter, o Options) (first []byte, err error) {
	recorder, connection := chain(w)
	if recorder == nil {
		h := w.Header()
		first = appendHead(make([]byte, 0, 512+len(o.First)), o.Status, h)
	} else { // the response's head leaves when the connection is taken over
		w.Header().Set("Connection", "close")
		w.Header().Set("Transfer-Encoding", "identity") // net/http: neither a length nor chunks
		recorder.WriteHeader(o.Status)
	}
	conn, _, err := http.NewResponseController(connection).Hijack()
	if err != nil {
		w.Header().Del("Connection")
		w.Header().Del("Transfer-Encoding")
		return nil, err
	}
	if c.server.poller.UnackedTimeout() == 0 { // Attach sets it otherwise
		netpoll.LimitUnacked(conn, unackedTimeout)
	}
	c.server.poller.Attach(c.IO(), conn, c)
	return first, nil
}

// appendFirst appends the first bytes of the body.
func (c *Conn) appendFirst(b []byte, o Options) []byte {
	b = append(b, o.First...)
	if c.own == nil || len(o.Frames) == 0 {
		return o.Form.appendAll(b, o.Frames)
	}
	return c.own.rewrite(b, o.Form.appendAll(nil, o.Frames))
}

// transparent are Caddy's response writers that pass the head of a response on as it is. Other writers may keep it
// back, such as that of the directive encode.
var transparent = []string{
	"*caddyhttp.responseRecorder", "*caddyhttp.IdleTimeoutWriter", "*caddyhttp.readDeadlineWriter",
}

// chain returns the response writer of the server, below all wrappers, and the outermost writer that must see the
// response's status, such as an access log's. The latter is nil if there is none.
func chain(w http.ResponseWriter) (recorder, connection http.ResponseWriter) {
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return recorder, w
		}
		switch kind := reflect.TypeOf(w).String(); {
		case !slices.Contains(transparent, kind):
			recorder = nil
		case recorder == nil && kind == transparent[0]:
			recorder = w
		}
		w = u.Unwrap()
	}
}

// appendHead appends the head of a response over HTTP/1.1 whose body ends with the connection.
func appendHead(b []byte, status int, h http.Header) []byte {
	b = append(strconv.AppendInt(append(b, "HTTP/1.1 "...), int64(status), 10), ' ')
	b = append(append(b, http.StatusText(status)...), "\r\nConnection: close\r\n"...)
	if h["Date"] == nil {
		b = append(time.Now().UTC().AppendFormat(append(b, "Date: "...), http.TimeFormat), "\r\n"...)
	}
	for name, values := range h {
		if name == "Connection" || name == "Transfer-Encoding" || name == "Content-Length" ||
			!httpguts.ValidHeaderFieldName(name) {
			continue
		}
		for _, v := range values {
			b = append(append(append(b, name...), ": "...), textproto.TrimString(oneLine.Replace(v))...)
			b = append(b, "\r\n"...)
		}
	}
	return append(b, "\r\n"...)
}

var oneLine = strings.NewReplacer("\n", " ", "\r", " ")

// stream makes the response of a handler the connection.
func (c *Conn) stream(w http.ResponseWriter, r *http.Request, o Options) error {
	s := &stream{w: w, control: http.NewResponseController(w), ctx: r.Context(), options: &o, done: make(chan struct{})}
	w.WriteHeader(o.Status)
	if err := s.control.Flush(); err != nil {
		return err
	}
	c.server.poller.Attach(c.IO(), s, c)
	return nil
}

var _ net.Conn = (*stream)(nil)
