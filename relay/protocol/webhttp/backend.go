package webhttp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/fairqueue"
)

// Settings configure a [Backend].
type Settings struct {
	// URL is the address of the backend, http or https, without a query. A path is put before the client's path.
	URL *url.URL
	// Transport sends the requests. Nil: a pool of connections of its own, without a proxy.
	Transport http.RoundTripper
	// Concurrency bounds the concurrent requests, Queue the connections that wait for a request.
	Concurrency, Queue int
	// Timeout bounds a request, and the wait for its turn.
	Timeout time.Duration
	// Key signs the requests, by the header Grip-Sig; empty: requests are not signed. Issuer and Audience are claims
	// of the signature; the claim aud is left out if Audience is empty.
	Key              []byte
	Issuer, Audience string
	// Headers are the names of the handshake's headers that requests carry. Empty: all that do not belong to the
	// client's own connection.
	Headers []string
	// MapChannel reports whether the group with the name of a channel, beside the channel's own, is subscribed as well:
	// a group of Django Channels. Nil: no group.
	MapChannel func(channel string) bool
	// Grant returns the subscription of a client to a group that needs no permission, as the engine's Grant does.
	Grant func(ctx context.Context, id relay.Identity, group string) (relay.Subscription, error)
	// Log gets what an operator should know.
	Log *slog.Logger
}

// Defaults of the settings.
const (
	DefaultConcurrency = 32
	DefaultQueue       = 4096
	DefaultTimeout     = 30 * time.Second
)

// MaxQueue bounds Settings.Queue: a backend allocates a place for each length of a queue.
const MaxQueue = 1_000_000

// DefaultIssuer is the issuer of signatures without configuration.
const DefaultIssuer = "edgerelay"

// Backend sends the events of its connections to a site as HTTP requests: at most one at a time for a connection, and
// at most Concurrency for all of them, which take turns. Methods may be called concurrently.
// See docs/decisions/webhttp.md#why-does-a-message-become-a-request-through-a-fair-queue
type Backend struct {
	// Stats counts the work.
	Stats Stats

	current atomic.Pointer[configured]
	format  *Format
	times   times
	running runs
	last    atomic.Pointer[Failure]
	holds   HoldFormat
	flights flights
}

// times are the times of the protocol, which only tests change.
type times struct {
	// firstRetry is the wait before the first retry, which doubles with each, and retryRange a random part of it.
	firstRetry, retryRange time.Duration
	// maxBlocked bounds the time for which the client's next message is not read. It stays below the time after which
	// a client that is not read counts as timed out.
	maxBlocked time.Duration
	// minKeepAlive is the shortest interval of keep-alive requests, minClientIdle that of messages for an idle client.
	minKeepAlive, minClientIdle time.Duration
	// maxGrace bounds the time for which a held client waits for an item that others have overtaken.
	maxGrace time.Duration
	// minHold is the shortest time for which a client waits for a response, minStreamKeepAlive the shortest interval of
	// the keep-alives of a held stream.
	minHold, minStreamKeepAlive time.Duration
}

// protocolTimes are those of Pushpin, except maxBlocked and minClientIdle.
var protocolTimes = times{
	firstRetry: time.Second, retryRange: time.Second, maxBlocked: 15 * time.Second, minKeepAlive: 20 * time.Second,
	minClientIdle: time.Second, maxGrace: 400 * time.Millisecond,
	minHold: 5 * time.Second, minStreamKeepAlive: time.Second,
}

// configured is a Backend's settings, and what follows from them.
type configured struct {
	Settings
	queue *fairqueue.Queue
	only  map[string]bool

	mu     sync.Mutex // guards the fields below
	token  string
	signed time.Time
}

// Stats counts a backend's work.
type Stats struct {
	// Connections is the number of open connections.
	Connections atomic.Int64
	// Requests counts the requests that began, Retries those among them that repeat one, and Failed those without a
	// valid answer.
	Requests, Retries, Failed atomic.Uint64
	// Opened counts the handshakes that the backend accepted, Rejected those that it rejected.
	Opened, Rejected atomic.Uint64
	// Busy counts the connections that were closed because their requests waited too long.
	Busy atomic.Uint64
	// Messages counts the clients' messages that the backend took.
	Messages atomic.Uint64
	// Held is the number of held responses. Followed counts the requests that they caused, and Shared the uses of another
	// client's.
	Held             atomic.Int64
	Followed, Shared atomic.Uint64
}

// The classes of requests, in the order of the queue's classes. Messages get most slots, so that neither many
// handshakes nor the disconnects after a network failure delay them for long.
const (
	classMessage = iota
	classOpen
	classEnd
)

// NewBackend returns a backend. format is the Format of its connections. The error names an invalid setting.
func NewBackend(s Settings, format *Format) (*Backend, error) {
	b := &Backend{format: format, times: protocolTimes}
	return b, b.Update(s)
}

// Update changes the settings; they apply to the next request of each connection. After an error, the settings are as
// they were.
func (b *Backend) Update(s Settings) error {
	if s.URL == nil || s.URL.Host == "" || s.URL.Scheme != "http" && s.URL.Scheme != "https" || s.URL.RawQuery != "" {
		return errors.New("invalid URL of the backend; use one such as http://127.0.0.1:8000, without a query")
	}
	if s.Concurrency <= 0 {
		s.Concurrency = DefaultConcurrency
	}
	if s.Queue <= 0 {
		s.Queue = DefaultQueue
	}
	if s.Queue > MaxQueue {
		return fmt.Errorf("queue: number %d is too large; use %d at most", s.Queue, MaxQueue)
	}
	if s.Timeout <= 0 {
		s.Timeout = DefaultTimeout
	}
	if s.Issuer == "" {
		s.Issuer = DefaultIssuer
	}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if s.Transport == nil {
		s.Transport = newTransport(s.Concurrency)
	}
	c := &configured{Settings: s, only: map[string]bool{}}
	for _, name := range s.Headers {
		name = http.CanonicalHeaderKey(name)
		if Reserved(name) || strings.Contains(name, "_") {
			return fmt.Errorf("header %s belongs to the protocol, or has an underscore; remove it", name)
		}
		c.only[name] = true
	}
	class := fairqueue.Class{Weight: 1, MaxPerKey: s.Queue, MaxQueued: s.Queue, Timeout: s.Timeout}
	messages := class
	messages.Weight = 4
	c.queue = fairqueue.New(s.Concurrency, messages, class, class)
	b.current.Store(c)
	return nil
}

// idleTimeout is how long a connection to the backend is kept for the next request. It is shorter than that of common
// servers, such as gunicorn's two seconds: a request on a connection that the server closes at this moment is lost,
// because the relay cannot know whether the server has seen it.
const idleTimeout = time.Second

// newTransport returns a transport with a connection for each concurrent request. A backend on the same host or network
// needs no compression and no proxy.
func newTransport(concurrency int) *http.Transport {
	return &http.Transport{
		MaxIdleConns: concurrency, MaxIdleConnsPerHost: concurrency, MaxConnsPerHost: concurrency,
		IdleConnTimeout: idleTimeout, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
		TLSHandshakeTimeout: 5 * time.Second, ForceAttemptHTTP2: false,
	}
}

// Format returns the Format of the backend's connections.
func (b *Backend) Format() *Format { return b.format }

// Queued is the number of connections that wait for a request.
func (b *Backend) Queued() (n int) {
	for _, queued := range b.current.Load().queue.Queued() {
		n += queued
	}
	return n
}

// Close waits until the backend has been told about the ends of all connections, or ctx ends. The connections have
// ended before.
func (b *Backend) Close(ctx context.Context) error { return b.running.wait(ctx) }

// tokenLifetime is the lifetime of a signature. A signature is reused for a part of it.
const (
	tokenLifetime = time.Hour
	tokenReuse    = 10 * time.Minute
)

// signature returns the value of Grip-Sig, empty without a key.
func (c *configured) signature(now time.Time) string {
	if len(c.Key) == 0 {
		return ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token == "" || now.Sub(c.signed) > tokenReuse || now.Before(c.signed) {
		claims := claims{Issuer: c.Issuer, Expires: now.Add(tokenLifetime).Unix()}
		if c.Audience != "" {
			claims.Audience = c.Audience
		}
		c.token, c.signed = claims.sign(c.Key), now
	}
	return c.token
}

// runs counts goroutines, and lets a caller wait for their end.
type runs struct {
	mu   sync.Mutex // guards the fields below
	n    int
	idle chan struct{} // closed when n becomes 0; nil while no caller waits
}

func (r *runs) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
}

func (r *runs) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n--; r.n == 0 && r.idle != nil {
		close(r.idle)
		r.idle = nil
	}
}

func (r *runs) wait(ctx context.Context) error {
	r.mu.Lock()
	if r.n == 0 {
		r.mu.Unlock()
		return nil
	}
	if r.idle == nil {
		r.idle = make(chan struct{})
	}
	idle := r.idle
	r.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
