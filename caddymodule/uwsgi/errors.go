package uwsgi

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// rejection is an error before the request is sent, which is not the upstream's fault.
type rejection struct {
	status int
	err    error
}

func (r *rejection) Error() string { return r.err.Error() }
func (r *rejection) Unwrap() error { return r.err }

// reject converts an error before the dial for reverse_proxy. A client's fault must not count against an upstream.
// Where passive health checks count every error as a failure, a rejection therefore becomes a response.
func (t *Transport) reject(r *http.Request, err error) (*http.Response, error) {
	if r.Body != nil {
		r.Body.Close()
	}
	known := &rejection{http.StatusInternalServerError, err}
	if !errors.As(err, &known) {
		return nil, err
	}
	if !t.passive {
		return nil, caddyhttp.Error(known.status, known.err)
	}
	if t.rejectionLogs.allow() {
		t.log.Error("uwsgi request rejected", "status", known.status, "error", known.err)
	}
	return &http.Response{
		Status: http.StatusText(known.status), StatusCode: known.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Length": {"0"}}, Body: http.NoBody, Request: r,
	}, nil
}

// logLimit allows one log line per second.
type logLimit struct{ last atomic.Int64 }

func (l *logLimit) allow() bool {
	last, now := l.last.Load(), time.Now().UnixNano()
	return now-last >= int64(time.Second) && l.last.CompareAndSwap(last, now)
}

// bodyError returns a rejection for an error while reading the client's body, or a canceled failure if the client
// disconnected.
func bodyError(ctx context.Context, err error) error {
	if handled, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
		return &rejection{handled.StatusCode, err}
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &rejection{http.StatusRequestEntityTooLarge, tooLarge}
	}
	err = &failure{op: "reading the request body", err: err}
	// Check the timeout read_body before the context: the timeout cancels the context, too.
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &rejection{http.StatusRequestTimeout, err}
	}
	if ctx.Err() != nil {
		return &failure{op: "reading the request body", err: ctx.Err()}
	}
	if _, ok := errors.AsType[*net.OpError](err); ok || errors.Is(err, io.ErrUnexpectedEOF) {
		// The client disconnected within the body; reverse_proxy records a canceled request as 499.
		return &failure{op: "reading the request body", err: errors.Join(context.Canceled, err)}
	}
	return &rejection{http.StatusBadRequest, err}
}

// diskError returns the rejection for an error of a request body's temporary file: 507 if the disk is full, else 500.
func diskError(err error) error {
	status := http.StatusInternalServerError
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, full) {
			status = http.StatusInsufficientStorage
		}
	}
	return &rejection{status, &failure{
		op: "buffering the request body", err: err, remedy: "free space, or set temp_dir",
	}}
}

// failure is an error of the exchange with the client or the upstream.
type failure struct {
	op     string
	err    error
	remedy string
	// dial is set if nothing was sent: reverse_proxy may then try another upstream.
	dial bool
}

// Error returns operation, cause and remedy.
func (f *failure) Error() string {
	text := "uwsgi: " + f.op + ": " + f.err.Error()
	if f.remedy != "" {
		text += "; " + f.remedy
	}
	return text
}

func (f *failure) Unwrap() error { return f.err }

// Timeout implements [net.Error]. For a timeout, reverse_proxy responds with 504 instead of 502.
func (f *failure) Timeout() bool {
	n, ok := errors.AsType[net.Error](f.err)
	return ok && n.Timeout()
}

// Temporary implements [net.Error].
func (f *failure) Temporary() bool { return false }

// As presents a dial failure as the [reverseproxy.DialError] that permits a retry.
func (f *failure) As(target any) bool {
	d, ok := target.(*reverseproxy.DialError)
	if ok && f.dial {
		*d = reverseproxy.NewDialError(f.err)
	}
	return ok && f.dial
}

var _ net.Error = (*failure)(nil)
