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
	"time"

	"github.com/coder/websocket"
)

const (
	// retryFirst is the pause before the first attempt to dial a peer again; it doubles up to Settings.Retry.
	retryMin = 250 * time.Millisecond
	// selfWait is how long an address that turned out to be this node's own is left alone.
	selfRetry = time.Minute
	// nodeHeader tells a relay who dials, so that none speaks with itself.
	nodeHeader = "Edgerelay-Node"
)

// State is what a peer is doing.
type State string

// The states of a peer.
const (
	StateConnecting State = "connecting"
	StateConnected  State = "connected"
	// StateWaiting is a pause before the next attempt; the peer's error says what went wrong.
	StateWaiting State = "waiting"
	// StateRejected is a pause after the peer did not accept our secret.
	StateRejected State = "refused"
	// StateRedundant is a peer to which there is another connection, such as one that it dialled itself.
	StateRedundant State = "redundant"
	// StateSelf is an address that turned out to be this node's own.
	StateSelf State = "self"
)

// dialer keeps a connection to one URL.
type dialer struct {
	b      *Backplane
	target Target
	cancel context.CancelFunc
	done   chan struct{} // closed when it has ended

	endpoint Dialect // Broadcast or Relay: what to try next
	secret   int     // index of the secret to use next
	python   bool    // the last connection was with a Python node

	mu     sync.Mutex
	state  State
	since  time.Time
	err    error
	link   *link
	node   string // of the relay there, once known
	logged time.Time
}

func newDialer(b *Backplane, t Target, cancel context.CancelFunc) *dialer {
	d := &dialer{b: b, target: t, cancel: cancel, done: make(chan struct{}), endpoint: Broadcast, state: StateConnecting, since: time.Now()}
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

// shrinkBuffer bounds what the kernel keeps for a peer.
func shrinkBuffer(conn net.Conn) {
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = t.NetConn()
	}
	wakeSoon(conn)
	if c, ok := conn.(interface{ SetWriteBuffer(int) error }); ok {
		_ = c.SetWriteBuffer(socketBuffer) // the default works, too
	}
}

// run dials until ctx ends.
func (d *dialer) run(ctx context.Context) {
	wait := retryMin
	for ctx.Err() == nil && !d.b.leaving() {
		d.setState(StateConnecting, nil)
		began := time.Now()
		err := d.connect(ctx)
		if ctx.Err() != nil {
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

// jitter varies a time by a fifth, so that nodes do not all dial at once.
func jitter(d time.Duration) time.Duration {
	return d - d/5 + rand.N(2*d/5+1)
}

// awaitNeed waits until no other connection to the same node is left.
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

// set notes the state, and logs what an operator should know, the same trouble once a minute.
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
	var ended endedError // was logged as such
	if err != nil && !errors.As(err, &ended) && time.Since(d.logged) > time.Minute {
		d.logged = time.Now()
		d.b.log.Warn("a peer cannot be reached; it is dialled again and again", "peer", d.target.URL, "error", err)
	}
	if s == StateConnected {
		d.logged = time.Time{}
	}
}

// connect dials and serves the connection until it ends. Relays come first: AWX's header is for Python nodes and old
// relays, and only for those that an operator has named. It tries the endpoints of both generations before it gives up.
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
			return fmt.Errorf("%w; if it is a Python node, name it in peers, or set dialect where it is found", err)
		}
		d.secret = secret // it may be right, and the node not a relay
		if !errors.Is(err, RejectedSecret) {
			// The endpoint is missing, whatever the header. To ask for it again costs a second with Daphne.
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
	return err // neither is there; the first answer tells more
}

// otherEndpoint is the one of the other generation of AWX.
func otherEndpoint(d Dialect) Dialect {
	if d == Broadcast {
		return Relay
	}
	return Broadcast
}

// endpointError is an answer that may mean that the peer is of the other generation.
type endpointError struct{ error }

func (e endpointError) Unwrap() error { return e.error }

// endedError is why an established connection has ended.
type endedError struct{ error }

func (e endedError) Unwrap() error { return e.error }

// try dials one endpoint. With challenge it sends no header that could be used again, and speaks with relays alone.
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
	conn, resp, err := websocket.Dial(dialing, strings.TrimSuffix(d.target.URL, "/")+"/websocket/"+string(endpoint)+"/", options)
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
		return errors.New("the peer does not speak edgerelay.v1, and dialect edgerelay allows nothing else")
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

// meetRelay shakes hands with a relay, and serves the connection unless it is one too many.
func (d *dialer) serveRelay(l *link, secret string) error {
	if err := l.startHandshake(secret); err != nil {
		l.closeWith(websocket.StatusPolicyViolation, "handshake")
		return err
	}
	d.mu.Lock()
	d.node = l.node
	d.mu.Unlock()
	// When both sides dial, the connection that the smaller id dialled stays.
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
	d.b.log.Info("connected to a peer", "peer", l.String(), "dialect", l.dialect)
}

// disconnected notes that a link has ended, and reports whether it ever stood.
func (d *dialer) clearLink(l *link, err error) bool {
	d.mu.Lock()
	had := d.link == l
	d.link = nil
	d.mu.Unlock()
	if had && l.b.ctx.Err() == nil {
		d.b.log.Warn("the connection to a peer has ended", "peer", l.String(), "error", err, "after", time.Since(l.began).Round(time.Millisecond))
	}
	return had
}

// explain makes an error of a handshake that failed.
func (d *dialer) handshakeError(resp *http.Response, err error) error {
	if resp == nil {
		return err
	}
	switch resp.StatusCode {
	case http.StatusForbidden, http.StatusUnauthorized:
		d.secret++ // the peer may know only the other one
		hint := ""
		if theirs, e := http.ParseTime(resp.Header.Get("Date")); e == nil {
			hint = fmt.Sprintf("; its clock is %v behind ours", time.Since(theirs).Round(time.Second))
		}
		return endpointError{fmt.Errorf("the peer answers %s%s: %w", resp.Status, hint, RejectedSecret)}
	case http.StatusLoopDetected:
		return RejectedSelf
	case http.StatusSwitchingProtocols:
		return err
	}
	return endpointError{fmt.Errorf("the peer answers %s where the websocket should be", resp.Status)}
}
