package webhttp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/fairqueue"
)

// maxRetries is the number of times that a request is repeated, as in Pushpin.
const maxRetries = 5

// Close codes of RFC 6455 and its registry that say why a backend's connection ends.
const (
	closeInternal = 1011
	closeNoStatus = 1005
	closeAbnormal = 1006
)

// failure is the end of an exchange without a valid answer.
type failure struct {
	// code and reason are for the client's close frame.
	code   int
	reason string
	// away is set if the backend was not reached. unknown is set if the backend may have carried out the request.
	away, unknown bool
	err           error
}

func (f *failure) Error() string { return f.reason + ": " + f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// input returns what the failure means for the phase.
func (f *failure) input() input {
	if f.away {
		return backendIsAway
	}
	return requestFails
}

func invalid(err error) *failure {
	return &failure{code: closeInternal, reason: "backend failed", err: err}
}

// answer is a backend's response.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// question is what a request says.
type question struct {
	class    int
	key      string // of the fair queue
	body     []byte
	replayed int // Content-Bytes-Replayed
	meta     []pair
	id       string
	handshake
	// http is set for a request that carries no events.
	http *httpQuestion
}

// exchange sends a question until the backend answers it, and counts. A question that the backend may have seen is not
// repeated. The end of ctx ends the wait for a turn, but no request in progress, whose effect would be unknown.
func (b *Backend) exchange(ctx context.Context, q *question) (*answer, *failure) {
	delay := b.times.firstRetry
	for try := 0; ; try++ {
		c := b.current.Load()
		a, sent, err := b.try(ctx, c, q)
		if err == nil {
			return a, nil
		}
		switch {
		case errors.Is(err, fairqueue.ErrFull):
			b.Stats.Busy.Add(1)
			return nil, &failure{code: relay.CloseTryLater, reason: "backend is busy", err: err}
		case ctx.Err() != nil:
			return nil, &failure{code: relay.CloseGoingAway, reason: "request canceled", away: true, err: err}
		}
		b.failed(err)
		switch {
		case errors.Is(err, errTooLong):
			return nil, invalid(err)
		case sent && isTimeout(err):
			return nil, &failure{code: relay.CloseTryLater, reason: "backend timed out", unknown: true, err: err}
		case sent:
			return nil, &failure{code: closeInternal, reason: "backend failed", unknown: true, err: err}
		case try == maxRetries || q.class == classOpen:
			return nil, &failure{code: relay.CloseTryLater, reason: "backend is unreachable", away: true, err: err}
		}
		c.Log.Debug("backend request failed, retrying", "error", err, "retry", try+1)
		select {
		case <-time.After(delay + rand.N(b.times.retryRange)):
			delay *= 2
		case <-ctx.Done():
		}
		b.Stats.Retries.Add(1)
	}
}

func isTimeout(err error) bool {
	n, ok := errors.AsType[net.Error](err)
	return ok && n.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

var errTooLong = fmt.Errorf("the response is longer than %d bytes", maxResponse)

// try sends a question once. sent is set if the backend may have seen the whole request.
func (b *Backend) try(ctx context.Context, c *configured, q *question) (a *answer, sent bool, err error) {
	if err := c.queue.Acquire(ctx, q.class, q.key); err != nil {
		return nil, false, err
	}
	defer c.queue.Release(q.class)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.Timeout)
	defer cancel()
	body := &sentBody{Reader: bytes.NewReader(q.body)}
	r := c.request(ctx, q, body)
	b.Stats.Requests.Add(1)
	resp, err := c.Transport.RoundTrip(r)
	if err != nil {
		return nil, body.sent(len(q.body), err), err
	}
	defer resp.Body.Close()
	if resp.StatusCode < http.StatusOK { // has no body, and its connection may stay open
		return &answer{status: resp.StatusCode, header: resp.Header}, true, nil
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	if err == nil && len(text) > maxResponse {
		err = errTooLong
	}
	if err != nil {
		return nil, true, err
	}
	return &answer{resp.StatusCode, resp.Header, text}, true, nil
}

// sentBody is a request's body that records whether it was read to the end: a transport reads it after it has a
// connection.
type sentBody struct {
	*bytes.Reader
	read atomic.Int64
}

func (s *sentBody) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	s.read.Add(int64(n))
	return n, err
}

// WriteTo hides that of bytes.Reader, which would not be counted.
func (s *sentBody) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{s})
}

func (s *sentBody) Close() error { return nil }

// sent reports whether a request that failed may have reached the backend as a whole.
func (s *sentBody) sent(length int, err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return false
	}
	return s.read.Load() == int64(length)
}

// request makes the request of a question.
func (c *configured) request(ctx context.Context, q *question, body *sentBody) *http.Request {
	h, method := q.header(), http.MethodPost
	if q.http != nil {
		h, method = q.http.header(h), q.http.method
	} else {
		h["Accept"], h["Content-Type"] = []string{ContentType}, []string{ContentType}
		h["Connection-Id"] = []string{q.id}
		h["Sec-Websocket-Extensions"] = []string{"grip"}
		h["Grip-Feature"] = []string{features}
	}
	if signature := c.signature(time.Now()); signature != "" {
		h["Grip-Sig"] = []string{signature}
	}
	if q.replayed > 0 {
		h["Content-Bytes-Replayed"] = []string{strconv.Itoa(q.replayed)}
	}
	for _, m := range q.meta {
		h["Meta-"+m.name] = []string{m.value}
	}
	if h["User-Agent"] == nil {
		h["User-Agent"] = []string{""} // net/http would name itself
	}
	r := &http.Request{
		Method: method, URL: c.target(q.uri), Host: q.host.Value(), Header: h, Body: body,
		ContentLength: int64(len(q.body)), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	if len(q.body) == 0 {
		r.Body = http.NoBody
	}
	return r.WithContext(ctx)
}

// target returns the URL of a path and query at the backend.
func (c *configured) target(uri string) *url.URL {
	target := *c.URL
	path, query, has := strings.Cut(uri, "?")
	if decoded, err := url.PathUnescape(path); err == nil {
		target.Path, target.RawPath = strings.TrimSuffix(c.URL.Path, "/")+decoded, ""
		if escaped := strings.TrimSuffix(c.URL.EscapedPath(), "/") + path; target.EscapedPath() != escaped {
			target.RawPath = escaped
		}
	}
	target.RawQuery, target.ForceQuery = query, has && query == ""
	return &target
}
