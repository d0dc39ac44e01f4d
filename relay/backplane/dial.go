package backplane

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

const (
	// retryMin is the pause before the first retry; the pause doubles up to Settings.Retry.
	retryMin = 250 * time.Millisecond
	// selfRetry is the pause before an address that turned out to be this node's own is dialed again.
	selfRetry = time.Minute
	// nodeHeader carries the dialing relay's id, so that no node connects to itself.
	nodeHeader = "Edgerelay-Node"
)

// State is the state of a peer.
type State string

// The states of a peer.
const (
	StateConnecting State = "connecting"
	StateConnected  State = "connected"
	// StateWaiting is the pause before the next attempt. The peer's error names the cause.
	StateWaiting State = "waiting"
	// StateRejected is the pause after the peer rejected our secret.
	StateRejected State = "refused"
	// StateRedundant means that another link to the peer exists, such as a link that the peer dialed.
	StateRedundant State = "redundant"
	// StateSelf means that the address is this node's own.
	StateSelf State = "self"
)

// dialer keeps a link to one URL.
type dialer struct {
	b      *Backplane
	target Target
	cancel context.CancelFunc
	done   chan struct{} // closed when run has returned

	endpoint Dialect     // Broadcast or Relay: the next to try
	secret   int         // index of the secret to use next
	python   bool        // the last connection was with a Python node
	reached  atomic.Bool // events of the peer's layer have arrived, or would not have to
	left     atomic.Bool // the target is no longer a peer

	mu     sync.Mutex
	state  State
	since  time.Time
	err    error
	link   *link
	node   string // of the relay there, once known
	logged time.Time
}

func newDialer(b *Backplane, t Target, cancel context.CancelFunc) *dialer {
	d := &dialer{
		b: b, target: t, cancel: cancel, done: make(chan struct{}),
		endpoint: Broadcast, state: StateConnecting, since: time.Now(),
	}
	if t.Dialect == Relay {
		d.endpoint = Relay
	}
	return d
}

// newClient returns an HTTP client for handshakes.
func newClient(config *tls.Config) *http.Client {
	dial := &net.Dialer{Timeout: handshakeWait, KeepAlive: 15 * time.Second}
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial.DialContext(ctx, network, address)
			shrinkBuffer(conn)
			return conn, err
		},
		TLSClientConfig:     config,
		TLSHandshakeTimeout: handshakeWait,
		DisableKeepAlives:   true,
		TLSNextProto:        map[string]func(string, *tls.Conn) http.RoundTripper{}, // a websocket needs HTTP/1.1
	}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// shrinkBuffer bounds the kernel's send buffer of a connection to a peer.
func shrinkBuffer(conn net.Conn) {
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = t.NetConn()
	}
	wakeSoon(conn)
	if c, ok := conn.(interface{ SetWriteBuffer(int) error }); ok {
		_ = c.SetWriteBuffer(socketBuffer) // larger buffers only delay pings
	}
}

// run dials until ctx ends.
func (d *dialer) run(ctx context.Context) {
	wait := retryMin
	for ctx.Err() == nil && !d.b.leaving() {
		d.setState(StateConnecting, nil)
		began := time.Now()
		err := d.connect(ctx)
		if ctx.Err() != nil || d.left.Load() {
			return
		}
		most := d.b.settings.Load().Retry
		switch {
		case errors.Is(err, RejectedSelf):
			d.setState(StateSelf, nil)
			sleep(ctx, jitter(selfRetry))
			continue
		case errors.Is(err, errRedundant):
			d.setState(StateRedundant, nil)
			d.awaitLinkEnd(ctx)
			wait = retryMin
		case errors.Is(err, RejectedSecret):
			d.setState(StateRejected, err)
			wait = most
		default:
			d.setState(StateWaiting, err)
		}
		if time.Since(began) > most {
			wait = retryMin
		}
		if !sleep(ctx, jitter(min(wait, most))) {
			return
		}
		wait = min(2*wait, most)
	}
}

// sleep waits for d, and reports whether ctx is still active.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// jitter varies d by a fifth, so that nodes do not dial in step.
func jitter(d time.Duration) time.Duration {
	return d - d/5 + rand.N(2*d/5+1)
}

// awaitLinkEnd waits until no other link to the same node is left.
func (d *dialer) awaitLinkEnd(ctx context.Context) {
	for {
		other, changed := d.b.linkTo(d.node, nil)
		if other == nil {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// setState changes the state. It logs an unreachable peer at most once a minute.
func (d *dialer) setState(s State, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state != s || d.since.IsZero() {
		d.since = time.Now()
	}
	d.state = s
	if s != StateConnecting {
		d.err = err
	}
	var ended endedError // already logged by clearLink
	if err != nil && !errors.As(err, &ended) && time.Since(d.logged) > time.Minute {
		d.logged = time.Now()
		d.b.log.Warn("peer unreachable, retrying", "peer", d.target.URL, "error", err)
	}
	if s == StateConnected {
		d.logged = time.Time{}
	}
}

// connect dials and serves the link until it ends. It tries the relays' challenge first: AWX's header is for Python
// nodes and old relays, and only for nodes that an operator has named. It tries the endpoints of both AWX
// generations before it fails.
// See docs/decisions/backplane.md#why-does-a-relay-dial-with-the-challenge-first
func (d *dialer) connect(ctx context.Context) error {
	dialect := d.b.settings.Load().Dialect
	if dialect == Broadcast || dialect == Relay {
		return d.dial(ctx, dialect, false)
	}
	var other endpointError
	if !d.python || d.target.Found || dialect == EdgeRelay {
		secret := d.secret
		err := d.dial(ctx, d.endpoint, true)
		if !errors.As(err, &other) || dialect == EdgeRelay {
			return err
		}
		if d.target.Found {
			return fmt.Errorf("%w; if the peer is a Python node, list it in peers or set the discovery's dialect", err)
		}
		d.secret = secret // the secret may be right, and the node not a relay
		if !errors.Is(err, RejectedSecret) {
			// A missing endpoint is missing for AWX's header as well, and with Daphne the answer takes a second.
			d.endpoint = otherEndpoint(d.endpoint)
		}
	}
	err := d.dial(ctx, d.endpoint, false)
	if !errors.As(err, &other) {
		return err
	}
	d.endpoint = otherEndpoint(d.endpoint)
	if second := d.dial(ctx, d.endpoint, false); !errors.As(second, &other) {
		return second
	}
	d.python = false
	return err // both endpoints are missing; the first answer is the more useful error
}

// otherEndpoint returns the endpoint of the other AWX generation.
func otherEndpoint(d Dialect) Dialect {
	if d == Broadcast {
		return Relay
	}
	return Broadcast
}

// endpointError is an answer that may mean that the peer is of the other AWX generation.
type endpointError struct{ error }

func (e endpointError) Unwrap() error { return e.error }

// endedError is the reason for the end of an established link.
type endedError struct{ error }

func (e endedError) Unwrap() error { return e.error }

// dial connects to one endpoint and serves the link. With challenge it sends no header that could be replayed, and
// accepts only relays.
func (d *dialer) dial(ctx context.Context, endpoint Dialect, challenge bool) error {
	s := d.b.settings.Load()
	secret := s.Secrets[d.secret%len(s.Secrets)]
	header := Header
	if challenge {
		header = NativeHeader
	}
	out := d.b.newOutbox()
	client := *d.b.client.Load()
	client.Transport = dialing{client.Transport, out}
	options := &websocket.DialOptions{
		HTTPClient:      &client,
		HTTPHeader:      http.Header{headerName: {header(secret, time.Now())}, nodeHeader: {d.b.id}},
		CompressionMode: websocket.CompressionDisabled,
		OnPingReceived:  out.acceptsPing,
	}
	if s.Dialect == Auto || s.Dialect == EdgeRelay {
		options.Subprotocols = []string{subprotocol}
	}
	dialing, cancel := context.WithTimeout(ctx, handshakeWait)
	defer cancel()
	url := strings.TrimSuffix(d.target.URL, "/") + "/websocket/" + string(endpoint) + "/"
	conn, resp, err := websocket.Dial(dialing, url, options)
	if err != nil {
		return d.handshakeError(resp, err)
	}
	if s.Dialect == Auto {
		d.python = conn.Subprotocol() != subprotocol
	}
	l := d.b.newLink(conn, out, endpoint)
	l.dialed, l.url = true, d.target.URL
	stop := context.AfterFunc(ctx, func() { l.end(context.Cause(ctx)) })
	defer stop()
	defer l.end(nil)
	switch {
	case conn.Subprotocol() == subprotocol:
		l.dialect = EdgeRelay
		err = d.serveRelay(l, secret)
	case challenge && s.Dialect != EdgeRelay:
		l.closeWith(websocket.StatusPolicyViolation, "edgerelay.v1 only")
		return endpointError{errors.New("the peer does not speak edgerelay.v1")}
	case s.Dialect == EdgeRelay:
		l.closeWith(websocket.StatusPolicyViolation, "edgerelay.v1 only")
		return errors.New("the peer does not speak edgerelay.v1; set dialect auto to allow Python nodes")
	case endpoint == Broadcast:
		d.setConnected(l)
		err = l.readBroadcast()
	default:
		d.setConnected(l)
		err = l.feedWeb()
	}
	if d.clearLink(l, err) {
		return endedError{err}
	}
	return err
}

// serveRelay completes the handshake with a relay, and serves the link unless it is redundant.
func (d *dialer) serveRelay(l *link, secret string) error {
	if err := l.startHandshake(secret); err != nil {
		l.closeWith(websocket.StatusPolicyViolation, "handshake")
		return err
	}
	d.mu.Lock()
	d.node = l.node
	d.mu.Unlock()
	// If both sides dial, the link that the node with the smaller id dialed stays.
	if other, _ := d.b.linkTo(l.node, l); other != nil && (other.dialed || d.b.id > l.node) {
		l.closeWith(websocket.StatusNormalClosure, "redundant")
		return errRedundant
	}
	d.setConnected(l)
	return l.serveV1()
}

func (d *dialer) setConnected(l *link) {
	d.mu.Lock()
	d.link = l
	d.mu.Unlock()
	d.setState(StateConnected, nil)
	d.b.log.Info("peer connected", "peer", l.String(), "dialect", l.dialect)
}

// clearLink forgets an ended link, and reports whether it was established.
func (d *dialer) clearLink(l *link, err error) bool {
	d.mu.Lock()
	had := d.link == l
	d.link = nil
	d.mu.Unlock()
	if had && l.b.ctx.Err() == nil && !d.left.Load() {
		d.b.log.Warn("peer disconnected, retrying", "peer", l.String(), "error", err,
			"duration", time.Since(l.began).Round(time.Millisecond))
	}
	return had
}

// handshakeError describes a failed handshake.
func (d *dialer) handshakeError(resp *http.Response, err error) error {
	if resp == nil {
		return err
	}
	switch resp.StatusCode {
	case http.StatusForbidden, http.StatusUnauthorized:
		d.secret++ // next time, try the other secret
		hint := ""
		if theirs, e := http.ParseTime(resp.Header.Get("Date")); e == nil {
			hint = fmt.Sprintf("; the peer's clock is %v behind ours", time.Since(theirs).Round(time.Second))
		}
		return endpointError{fmt.Errorf("the peer answers %s%s: %w", resp.Status, hint, RejectedSecret)}
	case http.StatusLoopDetected:
		return RejectedSelf
	case http.StatusSwitchingProtocols:
		return err
	}
	return endpointError{fmt.Errorf("the peer answers %s instead of a websocket handshake", resp.Status)}
}
