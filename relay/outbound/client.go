package outbound

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Client makes the requests of one caller within a policy. All methods are safe for concurrent use.
type Client struct {
	current  atomic.Pointer[route]
	rate     bucket
	counters counters

	closing context.Context
	stop    context.CancelFunc

	// mu guards closed, and Add of running against Close.
	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
}

// route is a policy with its connections: a connection that one policy allows is of no use to another.
type route struct {
	*rules
	transport *http.Transport
}

// New returns a client with a policy.
func New(p Policy) (*Client, error) {
	c := &Client{rate: bucket{now: time.Now}}
	c.closing, c.stop = context.WithCancel(context.Background())
	if err := c.SetPolicy(p); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// Check returns the faults of a policy.
func Check(p Policy) error {
	_, err := p.compile()
	return err
}

// SetPolicy replaces the policy for later requests. The bounds of rate and concurrency go on counting. An invalid
// policy changes nothing.
func (c *Client) SetPolicy(p Policy) error {
	r, err := p.compile()
	if err != nil {
		return err
	}
	if old := c.current.Swap(&route{r, c.newTransport(r)}); old != nil {
		old.transport.CloseIdleConnections()
	}
	return nil
}

// Slot is the right to make one request, see [Client.Admit].
type Slot struct {
	client *Client
	route  *route
	req    *Request
	method string
	header http.Header
	body   []byte
	once   sync.Once
}

// Admit checks a request and takes one of the places for requests in flight. It does not block. Without a slot, the
// result tells why. The caller calls [Slot.Release].
func (c *Client) Admit(req *Request, body []byte) (*Slot, Result) {
	s, r := c.admit(req, body)
	if s == nil {
		c.counters.count(r)
	}
	return s, r
}

func (c *Client) admit(req *Request, body []byte) (*Slot, Result) {
	s := &Slot{client: c, route: c.current.Load(), req: req, method: req.Method, body: body}
	if s.method == "" {
		s.method = http.MethodGet
		if len(body) > 0 {
			s.method = http.MethodPost
		}
	}
	if outcome, reason := s.route.permits(req, s.method, len(body)); outcome != Responded {
		return nil, failed(outcome, reason)
	}
	var outcome Outcome
	var reason string
	if s.header, outcome, reason = checkHeaders(req.Headers, s.route.headers); outcome != Responded {
		return nil, failed(outcome, reason)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, failed(Unavailable, "the relay is stopping, or the plugin's configuration has changed")
	case c.counters.inFlight.Load() >= int64(s.route.InFlight):
		return nil, failed(Busy, fmt.Sprintf("%d requests are in flight", s.route.InFlight))
	}
	c.counters.inFlight.Add(1)
	c.running.Add(1)
	return s, Result{}
}

// Release gives the place of the request back. Further calls have no effect.
func (s *Slot) Release() {
	s.once.Do(func() {
		s.client.counters.inFlight.Add(-1)
		s.client.running.Done()
	})
}

// Timeout is how long [Slot.Do] takes at most.
func (s *Slot) Timeout() time.Duration { return s.req.timeout(s.route.Timeout) }

// Closing is done when the client is closed.
func (s *Slot) Closing() <-chan struct{} { return s.client.closing.Done() }

// Do makes the request and returns its end. It is called once, before Release.
func (s *Slot) Do() Result {
	c := s.client
	if !c.rate.take(s.route.Rate) {
		return c.counters.count(failed(Busy, fmt.Sprintf("more than %v requests per second", s.route.Rate)))
	}
	ctx, cancel := context.WithTimeout(c.closing, s.Timeout())
	defer cancel()
	began := time.Now()
	r := s.do(ctx)
	c.counters.took(time.Since(began))
	return c.counters.count(r)
}

func (s *Slot) do(ctx context.Context) Result {
	req := (&http.Request{
		Method: s.method, URL: s.req.url, Host: s.req.url.Host, Header: s.header, ContentLength: int64(len(s.body)),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	if len(s.body) > 0 {
		// With GetBody, a request on a connection that the server has closed meanwhile is sent on another.
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(s.body)), nil }
		req.Body, _ = req.GetBody()
	}
	// Not by http.Client, which follows redirects and keeps cookies.
	resp, err := s.route.transport.RoundTrip(req)
	if err != nil {
		return s.failure(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode < 200 || resp.StatusCode > 599 {
		return failed(Unavailable, "the response's status is none that ends a request")
	}
	limit := s.route.MaxResponse
	if resp.ContentLength > limit && s.method != http.MethodHead {
		return failed(TooLarge, fmt.Sprintf("the response has more than %d bytes", limit))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return s.failure(ctx, err)
	case int64(len(body)) > limit:
		return failed(TooLarge, fmt.Sprintf("the response has more than %d bytes", limit))
	}
	if len(s.req.ResponseHeaders) > 0 {
		body, err = withHeaders(s.req.ResponseHeaders, resp.Header, body)
		if err != nil || int64(len(body)) > limit+maxReturnedHeaders {
			return failed(TooLarge, fmt.Sprintf("the response as JSON has more than %d bytes", limit))
		}
	}
	return Result{Status: resp.StatusCode, Body: body}
}

// Start makes a request in another goroutine, and calls done with its end. If the request is not admitted, done is
// called at once.
func (c *Client) Start(req *Request, body []byte, done func(Result)) {
	s, r := c.Admit(req, body)
	if s == nil {
		done(r)
		return
	}
	go func() {
		defer s.Release()
		done(s.Do())
	}()
}

// Close ends all requests, and waits for them. Later requests are unavailable.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop()
	c.running.Wait()
	c.current.Load().transport.CloseIdleConnections()
}
