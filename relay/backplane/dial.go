package backplane

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/internal/tcptuning"
)

// nodeHeader carries the dialing relay's id, so that no node connects to itself.
const nodeHeader = "Edgerelay-Node"

// errMovedAway ends a stalled link whose URL now leads to another node.
var errMovedAway = errors.New("another node answers at this URL")

// connectKey is the key of a connecting in the context of a request.
type connectKey struct{}

// connecting has the limits of an attempt to connect.
type connecting struct {
	timeout time.Duration
	segment int                         // bytes per packet; 0: as many as the path takes
	last    string                      // the network address of the last link, for want of a name server
	socket  atomic.Pointer[net.TCPConn] // of the connection, once it was made
	done    atomic.Bool                 // the connection was made
	delayed atomic.Bool                 // the kernel had to send the first packet again
}

// newClient returns an HTTP client for handshakes.
func (b *Backplane) newClient(config *tls.Config) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			limits, options := ctx.Value(connectKey{}).(*connecting), b.socketOptions()
			options.MaxSegment = limits.segment
			if limits.last != "" && b.isNameUnknown(ctx, address) {
				address = limits.last
			}
			dial := &net.Dialer{Timeout: limits.timeout, KeepAlive: -1, Control: options.Control, Resolver: b.resolver}
			conn, err := dial.DialContext(ctx, network, address)
			if err == nil {
				socket := tcptuning.Socket(conn)
				limits.socket.Store(socket)
				limits.delayed.Store(tcptuning.Repeated(socket) > 0)
				limits.done.Store(true)
				b.tuneSocket(conn)
			}
			return conn, err
		},
		TLSClientConfig:     config,
		TLSHandshakeTimeout: handshakeWait,
		DisableKeepAlives:   true,
		TLSNextProto:        map[string]func(string, *tls.Conn) http.RoundTripper{}, // a websocket needs HTTP/1.1
	}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// isNameUnknown reports whether no name server says in time which address a host has, or whether it has one.
func (b *Backplane) isNameUnknown(ctx context.Context, address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, lookupLately)
	defer cancel()
	_, err = cmp.Or(b.resolver, net.DefaultResolver).LookupNetIP(ctx, "ip", host)
	var answer *net.DNSError
	return err != nil && (!errors.As(err, &answer) || !answer.IsNotFound)
}

// connect establishes a link, which is served in the background. It tries the relays' challenge first: AWX's header is
// for Python nodes and old relays, and only for nodes that an operator has named. It tries the endpoints of both AWX
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

// connectError is an attempt that has not made a connection: the network may be down.
type connectError struct{ error }

func (e connectError) Unwrap() error { return e.error }

// endedError is the reason for the end of an established link.
type endedError struct{ error }

func (e endedError) Unwrap() error { return e.error }

// dial connects to one endpoint. The link is served in the background. With challenge it sends no header that could be
// replayed, and accepts only relays.
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
	limits, wait := d.limits()
	dialing, cancel := context.WithTimeout(context.WithValue(ctx, connectKey{}, limits), wait)
	defer cancel()
	url := strings.TrimSuffix(d.target.URL, "/") + "/websocket/" + string(endpoint) + "/"
	var remote string
	conn, resp, err := websocket.Dial(withSocket(dialing, out, &remote), url, options)
	if limits.delayed.Load() {
		d.segments.unreachable()
	}
	if err != nil {
		if !limits.done.Load() {
			return connectError{err}
		}
		if resp != nil {
			d.noteAnswer(remote)
		}
		return d.handshakeError(resp, err)
	}
	if s.Dialect == Auto {
		d.python = conn.Subprotocol() != subprotocol
	}
	l := d.b.newLink(conn, out, endpoint)
	l.remote, l.segment, l.socket = remote, limits.segment, limits.socket.Load()
	l.secure = strings.HasPrefix(url, "https:")
	l.dialed, l.url, l.served = true, d.target.URL, make(chan struct{})
	switch {
	case conn.Subprotocol() == subprotocol:
		l.dialect = EdgeRelay
		err = d.startRelay(ctx, l, secret)
	case challenge && s.Dialect != EdgeRelay:
		l.closeWith(websocket.StatusPolicyViolation, "edgerelay.v1 only")
		err = endpointError{errors.New("the peer does not speak edgerelay.v1")}
	case s.Dialect == EdgeRelay:
		l.closeWith(websocket.StatusPolicyViolation, "edgerelay.v1 only")
		err = errors.New("the peer does not speak edgerelay.v1; set dialect auto to allow Python nodes")
	case endpoint == Broadcast:
		d.setConnected(l)
		d.serve(ctx, l, l.readBroadcast)
	default:
		d.setConnected(l)
		d.serve(ctx, l, l.feedWeb)
	}
	if err != nil {
		l.end(err)
	}
	return err
}

// limits returns the limits of the next attempt, and the time until the peer must have answered.
func (d *dialer) limits() (limits *connecting, wait time.Duration) {
	limits = &connecting{timeout: handshakeWait, segment: d.segments.size()}
	if !d.lately() {
		return limits, handshakeWait
	}
	limits.timeout = connectLately
	d.mu.Lock()
	defer d.mu.Unlock()
	limits.last = d.remote
	return limits, handshakeLately
}

// withSocket makes a request tell the outbox its socket, and the caller the remote address.
func withSocket(ctx context.Context, out *outbox, remote *string) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			*remote = info.Conn.RemoteAddr().String()
			out.delivery.socket = tcptuning.Socket(info.Conn)
		},
	})
}

// startRelay completes the handshake with a relay, and serves the link unless it is redundant.
func (d *dialer) startRelay(ctx context.Context, l *link, secret string) error {
	stop := context.AfterFunc(ctx, func() { l.end(context.Cause(ctx)) })
	defer stop()
	if err := l.startHandshake(secret); err != nil {
		l.closeWith(websocket.StatusPolicyViolation, "handshake")
		return err
	}
	d.mu.Lock()
	former := d.node
	d.node = l.node
	d.mu.Unlock()
	if former != "" && former != l.node {
		d.b.endFormerRun(former, l.name)
	}
	d.b.endBacklog(l.backlogKey())
	for rival := l.register(); rival != nil; rival = l.register() {
		if rival.prove(l) {
			l.closeWith(websocket.StatusNormalClosure, reasonRedundant)
			return errRedundant
		}
	}
	d.setConnected(l)
	d.serve(ctx, l, l.serveV1)
	return nil
}

// noteAnswer keeps the host of a server that is no relay, or not yet.
func (d *dialer) noteAnswer(remote string) {
	host, _, _ := net.SplitHostPort(remote)
	d.mu.Lock()
	d.answered = host
	d.mu.Unlock()
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
