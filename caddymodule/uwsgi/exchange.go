package uwsgi

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// exchange is one request and its answer, over a connection of its own.
type exchange struct {
	t    *Transport
	r    *http.Request
	ctx  context.Context
	conn net.Conn
	body *requestBody
	// unwatch ends the watch over the client's disconnect.
	unwatch func() bool

	// mu guards sending and sendErr, and the read deadline, which starts when sending ends.
	mu      sync.Mutex
	sending bool
	sendErr error
}

// dial connects to the upstream that reverse_proxy has chosen.
func (t *Transport) dial(r *http.Request, body *requestBody) (*exchange, error) {
	ctx := r.Context()
	network, address := "tcp", r.URL.Host
	if d, ok := ctx.Value(directKey{}).(*Direct); ok {
		network, address = d.network, d.address
	} else if info, ok := reverseproxy.GetDialInfo(ctx); ok {
		network, address = info.Network, info.Address
	}
	t.log.Debug("uwsgi roundtrip", "dial", address, "body_bytes", body.size, "on_disk", body.file != nil)
	conn, err := dialWithRetry(ctx, network, address, time.Duration(t.DialTimeout))
	if err != nil {
		if !body.kept {
			body.close()
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &failure{op: "dialing " + address, err: err, dial: true}
	}
	e := &exchange{t: t, r: r, ctx: ctx, conn: conn, body: body, sending: true}
	// The worker learns that the client has gone by the end of the connection.
	e.unwatch = context.AfterFunc(ctx, func() { conn.Close() })
	return e, nil
}

// dialPatiently dials, and waits while the listen queue of a Unix socket is full; the kernel does so itself for TCP.
func dialWithRetry(ctx context.Context, network, address string, timeout time.Duration) (net.Conn, error) {
	deadline := time.Now().Add(timeout)
	dialer := net.Dialer{Deadline: deadline}
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		conn, err := dialer.DialContext(ctx, network, address)
		if !errors.Is(err, syscall.EAGAIN) || time.Now().Add(pause).After(deadline) {
			return conn, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
	}
}

// close ends the exchange. It may be called more than once.
func (e *exchange) close() {
	e.unwatch()
	e.conn.Close()
}

// smallRequest is what is sent before the answer is read: it fits into the buffers of any socket.
const smallRequest = 16 << 10

// run sends the request and returns the answer, whose body ends the exchange.
func (e *exchange) run(packet []byte) (*http.Response, error) {
	if int64(len(packet))+e.body.size <= smallRequest {
		e.send(packet)
	} else {
		// A worker may answer before it reads all of a large body.
		go e.send(packet)
	}
	resp, err := e.answer(len(packet))
	if err != nil {
		e.close()
		return nil, err
	}
	return resp, nil
}

// sendStep is how much of a file must go out within a write timeout.
const sendStep = 1 << 20

// send sends variables and body.
func (e *exchange) send(packet []byte) {
	err := e.write(packet)
	e.body.close()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sending, e.sendErr = false, err
	deadline := time.Now().Add(time.Duration(e.t.ReadTimeout))
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		deadline = time.Unix(1, 0)
	}
	// A worker that takes no more may have answered all the same.
	_ = e.conn.SetReadDeadline(deadline)
}

func (e *exchange) write(packet []byte) error {
	patience := time.Duration(e.t.WriteTimeout)
	if err := e.body.rewind(); err != nil {
		return err
	}
	if err := e.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := (&net.Buffers{packet, e.body.memory}).WriteTo(e.conn); err != nil {
		return err
	}
	for left := e.body.size - int64(len(e.body.memory)); left > 0; {
		if err := e.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		n, err := io.CopyN(e.conn, e.body.file, min(left, sendStep))
		if err != nil {
			return err
		}
		left -= n
	}
	return nil
}

// Read reads from the worker, which must send something within the read timeout.
func (e *exchange) Read(p []byte) (int, error) {
	e.mu.Lock()
	var err error
	if !e.sending {
		err = e.conn.SetReadDeadline(time.Now().Add(time.Duration(e.t.ReadTimeout)))
	}
	e.mu.Unlock()
	n := 0
	if err == nil {
		n, err = e.conn.Read(p)
	}
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	if e.ctx.Err() != nil {
		return n, e.ctx.Err()
	}
	return n, &failure{op: "reading the answer", err: err}
}

// maxInformational bounds the 1xx answers before the real one, as net/http does.
const maxInformational = 5

// answer reads heads of answers up to the final one.
func (e *exchange) answer(packetSize int) (*http.Response, error) {
	b := make([]byte, 0, 4<<10)
	for informational := 0; ; {
		h, size, err := parseHead(b)
		switch {
		case err != nil:
			return nil, &failure{op: "parsing the answer", err: err, remedy: "look at the application's headers"}
		case size == 0:
			if b, err = e.more(b); err != nil {
				return nil, e.unanswered(err, len(b), packetSize)
			}
			continue
		case h.status == http.StatusSwitchingProtocols:
			return nil, &failure{op: "parsing the answer", err: errSwitching}
		case h.status >= 200:
			return e.response(h, b[size:])
		}
		if informational++; informational > maxInformational {
			return nil, &failure{op: "parsing the answer", err: errInformational}
		}
		trace := httptrace.ContextClientTrace(e.ctx)
		if h.status != http.StatusContinue && trace != nil && trace.Got1xxResponse != nil {
			if err := trace.Got1xxResponse(h.status, textproto.MIMEHeader(h.header)); err != nil {
				return nil, err
			}
		}
		b = b[:copy(b, b[size:])]
	}
}

// more reads more of a head into b.
func (e *exchange) more(b []byte) ([]byte, error) {
	if len(b) == cap(b) {
		if int64(len(b)) >= e.t.MaxResponseHeader {
			return b, &failure{op: "parsing the answer", err: errLongHead, remedy: "raise max_response_header"}
		}
		grown := make([]byte, len(b), min(2*int64(cap(b)), max(e.t.MaxResponseHeader, int64(len(b))+1)))
		copy(grown, b)
		b = grown
	}
	n, err := e.Read(b[len(b):cap(b)])
	if n > 0 {
		err = nil // comes again
	}
	return b[:len(b)+n], err
}

// Errors of answers.
var (
	errNoAnswer      = errors.New("the worker closed the connection without an answer")
	errCutHead       = errors.New("the worker closed the connection within the headers")
	errLongHead      = errors.New("headers are too large")
	errInformational = errors.New("too many 1xx answers")
	errSwitching     = errors.New("101 Switching Protocols is not supported; " +
		"proxy websockets of the application to an http-socket")
)

// uwsgiBufferSize is uWSGI's default of buffer-size, beyond which it drops a request.
const uwsgiBufferSize = 4096

// unanswered explains why there is no answer.
func (e *exchange) unanswered(err error, got, packetSize int) error {
	e.mu.Lock()
	sendErr := e.sendErr
	e.mu.Unlock()
	f := &failure{op: "reading the answer", err: err}
	switch {
	case e.ctx.Err() != nil:
		return e.ctx.Err()
	case sendErr != nil:
		f.op, f.err = "sending the request", sendErr
	case errors.Is(err, io.EOF) && got > 0:
		f.err = errCutHead
	case errors.Is(err, io.EOF):
		f.err = errNoAnswer
	case errors.Is(err, syscall.ECONNRESET):
		f.err = errors.Unwrap(err)
	default:
		return err
	}
	if !f.Timeout() {
		f.remedy = "look at uWSGI's log"
		// uWSGI closes a connection whose variables it cannot take.
		if got == 0 && packetSize-headerSize > uwsgiBufferSize {
			f.remedy += ", and raise its buffer-size if it says 'invalid request block size'"
		}
	}
	return f
}
