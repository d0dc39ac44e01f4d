package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/plugins"
)

// untilSignal returns a context that ends with an interrupt or a request to terminate. A second signal ends the process
// at once, whatever the command waits for.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

const (
	// dialTimeout bounds the connection to the admin API.
	dialTimeout = 5 * time.Second
	// healthSilence fits into the 3 s that the image gives its health check, with the start of the process.
	healthSilence = 2500 * time.Millisecond
	// readSilence bounds requests that the relay answers from memory, from its channel layer or from Caddy's storage.
	readSilence = 30 * time.Second
	// searchSilence bounds the search for secrets, which reads whole support bundles.
	searchSilence = 2 * time.Minute
	// changeSilence bounds changes of plugins: the node waits for the lock of the storage, compiles a module for as
	// long as its configuration lets it, and runs its samples.
	changeSilence = plugins.MaxCompileTime + 3*time.Minute
)

// silenceLimit returns the longest time in which the admin API sends nothing in reply to a request, by the work that
// the relay does for it.
func silenceLimit(method, path string) time.Duration {
	path, query, _ := strings.Cut(path, "?")
	switch {
	case strings.HasPrefix(path, "/edgerelay/health"):
		return healthSilence
	case path == "/edgerelay/doctor":
		limit := admin.DiagnosisTimeout + readSilence
		if q, err := url.ParseQuery(query); err == nil {
			if span, err := time.ParseDuration(q.Get("channels")); err == nil && span > 0 {
				limit += span
			}
		}
		return limit
	case path == "/edgerelay/secrets/find":
		return searchSilence
	case strings.HasPrefix(path, "/edgerelay/plugins/") && method != http.MethodGet:
		return changeSilence
	}
	return readSilence
}

// isStream reports whether the response to a path goes on until the command or the relay ends it. It may be silent.
func isStream(path string) bool {
	path, _, _ = strings.Cut(path, "?")
	return strings.HasPrefix(path, "/edgerelay/groups/") && strings.HasSuffix(path, "/tail") ||
		strings.HasPrefix(path, "/edgerelay/plugins/") && strings.HasSuffix(path, "/recording")
}

// silenceError ends a request whose response, or the next part of it, does not come.
type silenceError struct {
	limit time.Duration
	// changes reports whether the request may take effect nevertheless.
	changes bool
}

func (e *silenceError) Error() string { return fmt.Sprintf("no response within %v", e.limit) }

// silenceWatch ends a request when the admin API is silent for too long, before or within the response.
type silenceWatch struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	limit  time.Duration
	admin  adminAddress
	path   string
}

// watchSilence begins to watch a request, which has to use the context of the watch.
func watchSilence(ctx context.Context, admin adminAddress, method, path string) *silenceWatch {
	w := &silenceWatch{admin: admin, path: path, limit: silenceLimit(method, path)}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.timer = time.AfterFunc(w.limit, func() { w.cancel(&silenceError{w.limit, method != http.MethodGet}) })
	return w
}

// end ends the watch, and the request.
func (w *silenceWatch) end() {
	w.timer.Stop()
	w.cancel(nil)
}

// failure returns the error for a request, or a part of its response, that has failed.
func (w *silenceWatch) failure(err error) error {
	if cause := context.Cause(w.ctx); cause != nil {
		err = cause
	}
	return w.admin.unreachable(err)
}

// body returns the body of a response. A stream may be silent and of any length; an error is none.
func (w *silenceWatch) body(resp *http.Response) io.ReadCloser {
	w.timer.Stop()
	stream := isStream(w.path) && resp.StatusCode < http.StatusBadRequest
	return &watchedBody{ReadCloser: resp.Body, watch: w, stream: stream, left: maxResponseBytes}
}

// maxResponseBytes bounds a response that is no stream. The longest are pages of 1,000 connections or groups, the
// configuration, and twenty events of the longest kind, each with two decisions.
const maxResponseBytes = 256 << 20

// bodyError is the error of a response that ends too early or is too long. It is no error of the JSON in it.
type bodyError struct{ error }

func (e *bodyError) Unwrap() error { return e.error }

// watchedBody is the body of a response whose silences and length are bounded.
type watchedBody struct {
	io.ReadCloser
	watch  *silenceWatch
	stream bool
	left   int64
}

func (b *watchedBody) Read(p []byte) (int, error) {
	if b.stream {
		return b.ReadCloser.Read(p)
	}
	b.watch.timer.Reset(b.watch.limit)
	n, err := b.ReadCloser.Read(p)
	b.watch.timer.Stop()
	if b.left -= int64(n); b.left < 0 {
		path, _, _ := strings.Cut(b.watch.path, "?")
		return 0, &bodyError{fmt.Errorf("calling the admin API at %s (%s): the response to %s has more than %s; "+
			"check whether a relay is at this address, or set --address",
			b.watch.admin.shown(), b.watch.admin.origin, path, humanize.IBytes(maxResponseBytes))}
	}
	if err != nil && !errors.Is(err, io.EOF) && b.watch.ctx.Err() != nil {
		err = &bodyError{b.watch.failure(err)}
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.watch.end()
	return b.ReadCloser.Close()
}

// maxLineBytes bounds a line of a stream: an event, or a call with its request and its decision.
const maxLineBytes = 128 << 20

// readLine is ReadBytes('\n') for the lines of a stream, with a bound.
func readLine(r *bufio.Reader) (line []byte, err error) {
	for {
		part, err := r.ReadSlice('\n')
		if line = append(line, part...); !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
		if len(line) > maxLineBytes {
			return nil, fmt.Errorf("reading the stream: a line has more than %s; set --address to a relay",
				humanize.IBytes(maxLineBytes))
		}
	}
}
