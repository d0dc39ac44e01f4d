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

// exchange is one request and one response, over a connection of its own.
type exchange struct {
	t    *Transport
	r    *http.Request
	ctx  context.Context
	conn net.Conn
	body *requestBody
	// stopWatching stops closing conn when the client disconnects.
	stopWatching func() bool

	// mu guards sending, sendErr and the read deadline, which is set when sending ends.
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
		if !body.ownedByContext {
			body.close()
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &failure{op: "dialing " + address, err: err, dial: true}
	}
	e := &exchange{t: t, r: r, ctx: ctx, conn: conn, body: body, sending: true}
	// A disconnect of the client must reach the worker, and uwsgi has no other signal than the end of the connection.
	e.stopWatching = context.AfterFunc(ctx, func() { conn.Close() })
	return e, nil
}

// dialWithRetry dials, and retries while the listen queue of a Unix socket is full. For TCP, the kernel retries.
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

// close closes the connection. It may be called more than once.
func (e *exchange) close() {
	e.stopWatching()
	e.conn.Close()
}

// maxSmallRequest is the largest request that is sent without a goroutine. It fits into the buffers of any socket, so
// the write cannot block on a worker that responds early.
const maxSmallRequest = 16 << 10

// run sends the request and returns the response. Closing the response body ends the exchange.
func (e *exchange) run(packet []byte) (*http.Response, error) {
	if int64(len(packet))+e.body.size <= maxSmallRequest {
		e.send(packet)
	} else {
		// A worker may respond before it has read a large body.
		go e.send(packet)
	}
	resp, err := e.readResponse(len(packet))
	if err != nil {
		e.close()
		return nil, err
	}
	return resp, nil
}

// sendStepSize is the number of bytes of a file that the worker must accept within one write timeout.
const sendStepSize = 1 << 20

// send sends the variables and the body, and then starts the read deadline.
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
	// Even after a failed write, read: the worker may have sent a response.
	_ = e.conn.SetReadDeadline(deadline)
}

func (e *exchange) write(packet []byte) error {
	timeout := time.Duration(e.t.WriteTimeout)
	if err := e.body.rewind(); err != nil {
		return err
	}
	if err := e.conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := (&net.Buffers{packet, e.body.memory}).WriteTo(e.conn); err != nil {
		return err
	}
	for left := e.body.size - int64(len(e.body.memory)); left > 0; {
		if err := e.conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
			return err
		}
		n, err := io.CopyN(e.conn, e.body.file, min(left, sendStepSize))
		if err != nil {
			return err
		}
		left -= n
	}
	return nil
}

// Read reads from the worker. Once the request is sent, each Read must return within the read timeout.
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
	return n, &failure{op: "reading the response", err: err}
}

// maxInformational is the limit of 1xx responses before the final response, as in net/http.
const maxInformational = 5

// readResponse reads response heads up to the final one, and forwards 1xx responses to the client.
func (e *exchange) readResponse(packetSize int) (*http.Response, error) {
	b := make([]byte, 0, 4<<10)
	for informational := 0; ; {
		h, size, err := parseHead(b)
		switch {
		case err != nil:
			return nil, &failure{
				op: "parsing the response", err: err, remedy: "check the application's response headers",
			}
		case size == 0:
			if b, err = e.readMore(b); err != nil {
				return nil, e.explainFailure(err, len(b), packetSize)
			}
			continue
		case h.status == http.StatusSwitchingProtocols:
			return nil, &failure{op: "parsing the response", err: errSwitching}
		case h.status >= 200:
			return e.buildResponse(h, b[size:])
		}
		if informational++; informational > maxInformational {
			return nil, &failure{op: "parsing the response", err: errInformational}
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

// readMore appends the next bytes from the worker to b, which holds an incomplete head.
func (e *exchange) readMore(b []byte) ([]byte, error) {
	if len(b) == cap(b) {
		if int64(len(b)) >= e.t.MaxResponseHeader {
			return b, &failure{op: "parsing the response", err: errLargeHead, remedy: "raise max_response_header"}
		}
		grown := make([]byte, len(b), min(2*int64(cap(b)), max(e.t.MaxResponseHeader, int64(len(b))+1)))
		copy(grown, b)
		b = grown
	}
	n, err := e.Read(b[len(b):cap(b)])
	if n > 0 {
		// The next Read returns the error again.
		err = nil
	}
	return b[:len(b)+n], err
}

// Causes of failed responses.
var (
	errNoResponse    = errors.New("worker closed the connection without a response")
	errTruncatedHead = errors.New("worker closed the connection within the headers")
	errLargeHead     = errors.New("headers are too large")
	errInformational = errors.New("too many 1xx responses")
	errSwitching     = errors.New("101 Switching Protocols is not supported; " +
		"proxy the application's websockets to an http-socket")
)

// defaultBufferSize is uWSGI's default of buffer-size. uWSGI drops requests with larger variables.
const defaultBufferSize = 4096

// explainFailure returns the error of an exchange without a complete response head, with the most likely remedy. err
// is the error of the last read, and got is the number of bytes read.
func (e *exchange) explainFailure(err error, got, packetSize int) error {
	e.mu.Lock()
	sendErr := e.sendErr
	e.mu.Unlock()
	f := &failure{op: "reading the response", err: err}
	switch {
	case e.ctx.Err() != nil:
		return e.ctx.Err()
	case sendErr != nil:
		f.op, f.err = "sending the request", sendErr
	case errors.Is(err, io.EOF) && got > 0:
		f.err = errTruncatedHead
	case errors.Is(err, io.EOF):
		f.err = errNoResponse
	case errors.Is(err, syscall.ECONNRESET):
		f.err = errors.Unwrap(err)
	default:
		return err
	}
	if !f.Timeout() {
		f.remedy = "check uWSGI's log"
		// uWSGI closes the connection without a response if the variables exceed buffer-size.
		if got == 0 && packetSize-headerSize > defaultBufferSize {
			f.remedy += ", and raise its buffer-size if it says 'invalid request block size'"
		}
	}
	return f
}
