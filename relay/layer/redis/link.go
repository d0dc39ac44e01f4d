package redis

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
	"github.com/edgerelay/edgerelay/relay/internal/resp"
)

// link is the connection to one host on which Redis notifies of changes to our groups there, and on which their
// messages are read.
type link struct {
	broker   *Broker
	host     int
	receiver string // this node's channel name on the host, up to and including '!'
	sink     relay.Sink

	mu        sync.Mutex
	conn      *resp.Conn
	notifies  bool          // Redis pushes notifications
	finishing chan struct{} // closed when all that waited has been delivered
	finished  bool

	// of the reading goroutine
	route   *redisnet.Route // that the connection was made by
	woken   bool            // there may be messages
	probing bool            // it is time to ask
	tried   time.Time       // when it was last asked whether the host takes writes
	refused bool            // it did not
	handled int             // messages at the head of those in flight that have been delivered
	first   []byte          // the first of these
	more    bool            // there may be others behind them
	waited  int             // messages read since the channel key was last renamed
	unsure  bool            // the last commands may or may not have been executed
	most    int             // messages to ask for
	events  []relay.Event
	replays *replays
	former  bool // it lingers at a former master
	stuck   bool // the host takes no writes, so that nothing can be taken from the channel key

	reading mailbox // to notice losses

	quietUntil time.Time       // the host is not sent HELLO before
	told       *redisnet.Route // it was logged that the host does not notify
}

// run keeps the link up until ctx ends.
func (l *link) run(ctx context.Context) {
	l.most = drainMost
	wait := redisnet.RetryFirst
	for ctx.Err() == nil {
		began := time.Now()
		err := l.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if l.moved() || errors.Is(err, errReexamine) {
			l.broker.health.Replaced(l.host)
			wait = redisnet.RetryFirst
			continue
		}
		l.broker.health.Lost(l.host, err)
		if errors.Is(err, redisnet.ErrFormer) {
			continue
		}
		if time.Since(began) > time.Second {
			wait = redisnet.RetryFirst
		}
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-ctx.Done():
		}
		wait = min(2*wait, redisnet.RetryMost)
	}
}

// session connects, and reads until the connection breaks.
func (l *link) session(ctx context.Context) error {
	l.route = l.broker.hosts.Route(l.host)
	nc, conn, err := l.open(ctx)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = nc.Close() })() // ends what waits for a host that hangs
	lingers := false
	defer func() {
		if !lingers {
			_ = nc.Close()
		}
	}()
	l.mu.Lock()
	l.conn = conn
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.conn = nil
		l.mu.Unlock()
	}()
	l.tried = time.Time{}
	if err := l.probe(conn); err != nil { // before it counts as found: a replica is no use
		return err
	}
	l.broker.health.Found(l.host)
	l.foundMaster(nc)
	// Whatever happened while nobody was listening, memberships may be gone.
	l.broker.members.verifyHost(l.host)
	l.woken = true
	l.unsure = l.unsure || l.first != nil // whatever became of the last connection, or of the host
	l.replays.begin()
	for ctx.Err() == nil {
		if l.moved() {
			return errMoved
		}
		if !l.quietUntil.IsZero() && time.Now().After(l.quietUntil) {
			l.quietUntil = time.Time{}
			return errReexamine
		}
		if redisnet.Former(nc) {
			lingers = true
			l.linger(ctx, nc, conn)
			return redisnet.ErrFormer
		}
		if err := l.step(conn); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// lingerFor is how long a former master is read from at most.
const lingerFor = time.Minute

// linger goes on reading from a former master while the link goes on to the new one. Sentinels can take ten seconds to tell a master that it is
// none any more, and emitters go on sending there until they are cut off. What is in flight may be on both, and is looked at on both.
func (l *link) linger(ctx context.Context, nc net.Conn, conn *resp.Conn) {
	old := l.atFormer()
	l.unsure = true
	l.replays.lingering.Add(1)
	conn.Push = old.pushed
	l.broker.running.Go(func() {
		defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
		for end := time.Now().Add(lingerFor); redisnet.Former(nc) && time.Now().Before(end); {
			if err := old.step(conn); err != nil {
				break
			}
		}
		_ = conn.Close()
		l.replays.lingering.Add(-1)
	})
}

// atFormer is the link as it goes on reading from a former master.
func (l *link) atFormer() *link {
	return &link{
		broker: l.broker, host: l.host, receiver: l.receiver, sink: l.sink, route: l.route, notifies: l.notifies,
		woken: true, handled: l.handled, first: l.first, more: l.more, waited: l.waited, unsure: l.unsure, most: l.most,
		replays: l.replays, reading: l.reading, former: true,
	}
}

// moved tells whether there is a new way to the host.
func (l *link) moved() bool { return l.route != l.broker.hosts.Route(l.host) }

// pushed gets a notification: keys have changed, or with none named, everything has.
func (l *link) pushed(kind string, keys [][]byte) {
	if kind != "invalidate" {
		return
	}
	if len(keys) == 0 {
		l.woken = true
		l.broker.members.verifyHost(l.host)
		return
	}
	var groups []string
	for _, k := range keys {
		if string(k) == l.channelKey() {
			l.woken = true
		} else if g, ok := bytes.CutPrefix(k, []byte(groupKey(l.broker.place.Prefix, ""))); ok {
			groups = append(groups, string(g))
		}
	}
	l.broker.members.verify(groups)
}

// notified reports whether changes on the host become known by themselves.
func (l *link) notified() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.notifies
}

// interrupt ends the wait for a notification.
func (l *link) interrupt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		_ = l.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// errMoved ends a connection that works, to make another.
var errMoved = errors.New("the settings of the connection have changed")
