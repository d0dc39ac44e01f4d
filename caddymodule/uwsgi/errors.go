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

// refusal is an error that is not the upstream's: the request has not been sent.
type rejection struct {
	status int
	err    error
}

func (r *rejection) Error() string { return r.err.Error() }
func (r *rejection) Unwrap() error { return r.err }

// refuse turns an error before the dial into what reverse_proxy should do. A client's fault must not count
// against an upstream: where reverse_proxy counts every error, the refusal becomes an answer.
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
	if t.rejections.pass() {
		t.log.Error("uwsgi request rejected", "status", known.status, "error", known.err)
	}
	return &http.Response{
		Status: http.StatusText(known.status), StatusCode: known.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Length": {"0"}}, Body: http.NoBody, Request: r,
	}, nil
}

// logLimit lets one line a second through.
type logLimit struct{ last atomic.Int64 }

func (l *logLimit) pass() bool {
	last, now := l.last.Load(), time.Now().UnixNano()
	return now-last >= int64(time.Second) && l.last.CompareAndSwap(last, now)
}

// bodyError classifies an error of reading the client's body.
func bodyError(ctx context.Context, err error) error {
	if handled, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
		return &rejection{handled.StatusCode, err}
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &rejection{http.StatusRequestEntityTooLarge, tooLarge}
	}
	err = &failure{op: "reading the request body", err: err}
	// The timeout read_body also ends the request's context, so it has to be found first.
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &rejection{http.StatusRequestTimeout, err}
	}
	if ctx.Err() != nil {
		return &failure{op: "reading the request body", err: ctx.Err()}
	}
	if _, ok := errors.AsType[*net.OpError](err); ok || errors.Is(err, io.ErrUnexpectedEOF) {
		// The client has gone before the end, which reverse_proxy notes as 499.
		return &failure{op: "reading the request body", err: errors.Join(context.Canceled, err)}
	}
	return &rejection{http.StatusBadRequest, err}
}

// diskError is an error of a temporary file for a request body.
func diskError(err error) error {
	status := http.StatusInternalServerError
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, full) {
			status = http.StatusInsufficientStorage
		}
	}
	return &rejection{status, &failure{op: "buffering the request body", err: err, remedy: "free space, or set temp_dir"}}
}

// failure is an error of a request, once a dial has begun.
type failure struct {
	op     string
	err    error
	remedy string
	// dial tells that nothing was sent, so that another upstream may be tried.
	dial bool
}

// Error says operation, cause and remedy.
func (f *failure) Error() string {
	text := "uwsgi: " + f.op + ": " + f.err.Error()
	if f.remedy != "" {
		text += "; " + f.remedy
	}
	return text
}

func (f *failure) Unwrap() error { return f.err }

// Timeout implements [net.Error], by which reverse_proxy answers 504 instead of 502.
func (f *failure) Timeout() bool {
	n, ok := errors.AsType[net.Error](f.err)
	return ok && n.Timeout()
}

// Temporary implements [net.Error].
func (f *failure) Temporary() bool { return false }

// As lets reverse_proxy find its DialError.
func (f *failure) As(target any) bool {
	d, ok := target.(*reverseproxy.DialError)
	if ok && f.dial {
		*d = reverseproxy.NewDialError(f.err)
	}
	return ok && f.dial
}

var _ net.Error = (*failure)(nil)
