package backplane

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

const (
	// retryMin is the pause before the first retry; the pause doubles up to Settings.Retry.
	retryMin = 250 * time.Millisecond
	// retryLately bounds the pause, and the time to connect, for a peer that was connected within latelyConnected.
	retryLately, connectLately = time.Second, 2 * time.Second
	latelyConnected            = 2 * time.Minute
	// lookupLately is the time that a name server has to name the address of such a peer, before the last address is
	// dialed; handshakeLately the time for connection and handshake.
	lookupLately, handshakeLately = 500 * time.Millisecond, 5 * time.Second
	// besideWait is the pause before this node dials beside a stalled link that the other side has dialed: that side is
	// the first to dial again.
	besideWait = time.Second
	// selfRetry is the pause before an address that turned out to be this node's own is dialed again.
	selfRetry = time.Minute
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
	// StateStalled means that the link stands and gives no sign of life. This node dials beside it.
	StateStalled State = "stalled"
	// StateSelf means that the address is this node's own.
	StateSelf State = "self"
)

// up reports whether the address needs no link, or has one.
func (s State) up() bool { return s == StateConnected || s == StateRedundant || s == StateSelf }

// dialer keeps a link to one URL.
type dialer struct {
	b      *Backplane
	target Target
	cancel context.CancelFunc
	done   chan struct{} // closed when run has returned
	again  chan struct{} // holds a token while the node may be there now, so that a pause is in vain

	endpoint Dialect     // Broadcast or Relay: the next to try
	secret   int         // index of the secret to use next
	python   bool        // the last connection was with a Python node
	reached  atomic.Bool // events of the peer's layer have arrived, or would not have to
	left     atomic.Bool // the target is no longer a peer
	serving  sync.WaitGroup

	segments      segments
	loweredLogged time.Time // when smaller packets were last logged

	mu        sync.Mutex // guards the fields below
	state     State
	since     time.Time
	lost      time.Time // when the node was without a link, first
	err       error
	link      *link
	connected time.Time // when a link was last established or ended
	remote    string    // the network address of the last link
	node      string    // of the relay there, once known
	answered  string    // the host that has answered without being a relay
	logged    time.Time
}

func newDialer(b *Backplane, t Target, cancel context.CancelFunc) *dialer {
	d := &dialer{
		b: b, target: t, cancel: cancel, done: make(chan struct{}), again: make(chan struct{}, 1),
		endpoint: Broadcast, state: StateConnecting, since: time.Now(), lost: time.Now(),
	}
	if t.Dialect == Relay {
		d.endpoint = Relay
	}
	return d
}

// run dials until ctx ends, and returns when the links have ended as well.
func (d *dialer) run(ctx context.Context) {
	defer d.serving.Wait()
	wait := retryMin
	for ctx.Err() == nil && !d.left.Load() && !d.b.leaving() {
		if l := d.current(); l != nil && !l.isStalled() {
			wait = retryMin
			ended := d.awaitTrouble(ctx, l)
			d.noteEnd(l, ended)
			if ended == nil || ctx.Err() != nil { // stalled: dial beside it
				continue
			}
			if isRedundant(ended) && d.otherLink() {
				d.awaitOthers(ctx)
				continue
			}
			d.setState(StateWaiting, endedError{ended})
			sleep(ctx, jitter(wait))
			continue
		}
		began := time.Now()
		if d.current() == nil {
			d.setState(StateConnecting, nil)
		}
		err := d.connect(ctx)
		if err == nil || ctx.Err() != nil {
			continue
		}
		if errors.Is(err, errRedundant) && d.current() == nil {
			d.awaitOthers(ctx)
			wait = retryMin
			continue
		}
		d.noteFailure(err)
		if !d.pause(ctx, began, err, wait) {
			return
		}
		wait = min(2*wait, d.b.settings.Load().Retry)
	}
}

// pause waits after a failed attempt that began at a time.
func (d *dialer) pause(ctx context.Context, began time.Time, err error, wait time.Duration) bool {
	most := d.b.settings.Load().Retry
	switch {
	case errors.Is(err, RejectedSelf):
		d.setState(StateSelf, nil)
		return sleep(ctx, jitter(selfRetry))
	case errors.Is(err, RejectedSecret):
		d.setFailed(StateRejected, err)
		wait = most
	default:
		d.setFailed(StateWaiting, err)
	}
	wait = jitter(min(wait, most))
	if none := (connectError{}); errors.As(err, &none) && d.lately() { // an attempt that took long was a pause as well
		wait = max(min(wait, jitter(retryLately))-time.Since(began), time.Millisecond)
	}
	return d.sleepUnlessAccepted(ctx, wait)
}

// sleepUnlessAccepted is sleep that ends early, though not within retryLately, if mayBeAt has found that the node may
// be there now.
func (d *dialer) sleepUnlessAccepted(ctx context.Context, wait time.Duration) bool {
	shortest := min(wait, jitter(retryLately))
	if !sleep(ctx, shortest) {
		return false
	}
	rest := time.NewTimer(wait - shortest)
	defer rest.Stop()
	select {
	case <-rest.C:
	case <-d.again:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// mayBeAt is called when a relay has dialed this node from a host. If a server there has answered this dialer without
// being a relay, as one does that is not ready, the relay may be found now. It would be listed twice until it is.
func (d *dialer) mayBeAt(host string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.node != "" || d.answered != host {
		return
	}
	select {
	case d.again <- struct{}{}:
	default:
	}
}

// wakeDialers makes the dialers that may reach the dialing relay of a link try again.
func (b *Backplane) wakeDialers(l *link) {
	host, _, err := net.SplitHostPort(l.address)
	if err != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range b.dialers {
		d.mayBeAt(host)
	}
}

// lately reports whether the peer was connected a short time ago.
func (d *dialer) lately() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.link != nil || !d.connected.IsZero() && time.Since(d.connected) < latelyConnected
}

// current returns the link that this dialer has made, nil if it has ended.
func (d *dialer) current() *link {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.link
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

// isRedundant reports whether a link ended in favor of another one to the same node.
func isRedundant(ended error) bool {
	var closed websocket.CloseError
	return errors.Is(ended, errRedundant) || errors.Is(ended, errReplaced) || errors.Is(ended, errSilent) ||
		errors.As(ended, &closed) && closed.Code == websocket.StatusNormalClosure && closed.Reason == reasonRedundant
}

// awaitTrouble waits until a link has ended, and returns the reason; or until it has stalled, and returns nil.
func (d *dialer) awaitTrouble(ctx context.Context, l *link) (ended error) {
	select {
	case <-l.served:
		return l.result
	case <-l.vitals.untilStalled():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// otherLink reports whether a healthy link to the dialer's node stands.
func (d *dialer) otherLink() bool {
	return d.b.linkTo(d.knownNode()) != nil
}

// awaitOthers waits until no healthy link to the same node is left.
func (d *dialer) awaitOthers(ctx context.Context) {
	d.setState(StateRedundant, nil)
	node := d.knownNode()
	for other := d.b.linkTo(node); other != nil; other = d.b.linkTo(node) {
		select {
		case <-other.ctx.Done():
		case <-other.vitals.untilStalled():
		case <-ctx.Done():
			return
		}
	}
	if d.b.stalledLinkTo(node) {
		sleep(ctx, jitter(besideWait))
		return
	}
	sleep(ctx, jitter(retryMin))
}

func (d *dialer) knownNode() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.node
}

// setFailed is setState after a failed attempt. A stalled link is still there, and its state stays.
func (d *dialer) setFailed(s State, err error) {
	if d.current() == nil {
		d.setState(s, err)
		return
	}
	d.mu.Lock()
	d.err = err
	d.mu.Unlock()
}

// serve serves an established link in the background.
func (d *dialer) serve(ctx context.Context, l *link, f func() error) {
	d.serving.Go(func() {
		stop := context.AfterFunc(ctx, func() { l.end(context.Cause(ctx)) })
		defer stop()
		l.result = f()
		l.end(nil)
		d.clearLink(l, l.result)
		close(l.served)
	})
}

// setState changes the state. It logs an unreachable peer at most once a minute.
func (d *dialer) setState(s State, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state != s || d.since.IsZero() {
		d.since = time.Now()
	}
	if d.state.up() && !s.up() {
		d.lost = time.Now()
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

// setConnected records a new link. A stalled link to an earlier node at the same URL ends: that node is gone from
// there.
func (d *dialer) setConnected(l *link) {
	d.mu.Lock()
	before := d.link
	d.link, d.connected, d.remote = l, time.Now(), l.remote
	d.mu.Unlock()
	d.setState(StateConnected, nil)
	d.b.log.Info("peer connected", "peer", l.String(), "dialect", l.dialect)
	if before != nil && before.node != l.node {
		before.end(errMovedAway)
	}
}

// clearLink forgets an ended link.
func (d *dialer) clearLink(l *link, err error) {
	d.mu.Lock()
	had := d.link == l
	if had {
		d.link, d.connected = nil, time.Now()
	}
	d.mu.Unlock()
	if had && l.b.ctx.Err() == nil && !d.left.Load() && !isRedundant(err) {
		d.b.log.Warn("peer disconnected, retrying", "peer", l.String(), "error", err,
			"duration", time.Since(l.began).Round(time.Millisecond))
	}
}
