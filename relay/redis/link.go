package redis

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
)

// Time between attempts to connect.
const retryFirst, retryMost = 50 * time.Millisecond, 500 * time.Millisecond

// link is the connection to one host on which Redis notifies of changes to our groups there and, on the host that
// keeps this node's channel key, on which messages are read.
type link struct {
	broker  *Broker
	host    int
	options *goredis.Options
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	drains  bool
	sink    relay.Sink

	mu        sync.Mutex
	conn      *respConn
	notifies  bool          // Redis pushes notifications
	finishing chan struct{} // closed when all that waited has been delivered
	finished  bool

	// of the reading goroutine
	woken   bool      // there may be messages
	probing bool      // it is time to ask
	tried   time.Time // when it was last asked whether the host takes writes
	refused bool      // it did not
	handled int       // messages at the head of those in flight that have been delivered
	first   []byte    // the first of these
	more    bool      // there may be others behind them
	unsure  bool      // the last commands may or may not have been executed
	most    int       // messages to ask for
	events  []relay.Event
}

// run keeps the link up until ctx ends.
func (l *link) run(ctx context.Context) {
	l.most = drainMost
	wait := retryFirst
	for ctx.Err() == nil {
		began := time.Now()
		err := l.session(ctx)
		if ctx.Err() != nil {
			return
		}
		l.broker.health.lost(l.host, err)
		if time.Since(began) > time.Second {
			wait = retryFirst
		}
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-ctx.Done():
		}
		wait = min(2*wait, retryMost)
	}
}

// session connects, and reads until the connection breaks.
func (l *link) session(ctx context.Context) error {
	nc, err := l.dial(ctx, l.options.Network, l.options.Addr)
	if err != nil {
		return err
	}
	defer func() { _ = nc.Close() }()
	conn := newRespConn(nc, l.pushed)
	if err := l.greet(conn); err != nil {
		return err
	}
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
	l.broker.health.found(l.host)
	// Whatever happened while nobody was listening, memberships may be gone.
	l.broker.members.verifyHost(l.host)
	l.woken = true
	for ctx.Err() == nil {
		if err := l.step(conn); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// greet authenticates, selects the database and asks for notifications.
func (l *link) greet(conn *respConn) error {
	o := l.options
	user, password := o.Username, o.Password
	if user == "" {
		user = "default"
	}
	hello := []string{"HELLO", "3"}
	if password != "" {
		hello = append(hello, "AUTH", user, password)
	}
	notifies := false
	defer func() {
		l.mu.Lock()
		l.notifies = notifies
		l.mu.Unlock()
	}()
	_, err := conn.do(replyWait, hello...)
	var refused replyError
	switch {
	case err == nil:
		notifies = true
	case errors.As(err, &refused) && (strings.HasPrefix(string(refused), "ERR unknown command") || strings.HasPrefix(string(refused), "NOPROTO")):
		if password != "" {
			auth := []string{"AUTH", password}
			if o.Username != "" {
				auth = []string{"AUTH", o.Username, password}
			}
			if _, err := conn.do(replyWait, auth...); err != nil {
				return err
			}
		}
	default:
		return err
	}
	if o.DB != 0 {
		if _, err := conn.do(replyWait, "SELECT", strconv.Itoa(o.DB)); err != nil {
			return err
		}
	}
	if !notifies {
		return nil
	}
	// NOLOOP: what this connection changes itself is not news to it.
	track := []string{"CLIENT", "TRACKING", "ON", "BCAST", "NOLOOP", "PREFIX", groupKey(l.broker.place.Prefix, "")}
	if l.drains {
		track = append(track, "PREFIX", l.broker.channelKey())
	}
	if _, err := conn.do(replyWait, track...); errors.As(err, &refused) {
		notifies = false
		l.broker.log.Warn("redis does not notify of changes; it is polled instead, which costs more", "host", l.options.Addr, "error", err)
	} else if err != nil {
		return err
	}
	return nil
}

// pushed gets a notification: keys have changed, or with none named, everything has.
func (l *link) pushed(kind string, keys []string) {
	if kind != "invalidate" {
		return
	}
	if len(keys) == 0 {
		l.woken = true
		l.broker.members.verifyHost(l.host)
		return
	}
	groups := keys[:0]
	for _, k := range keys {
		if l.drains && k == l.broker.channelKey() {
			l.woken = true
		} else if g, ok := strings.CutPrefix(k, groupKey(l.broker.place.Prefix, "")); ok {
			groups = append(groups, g)
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
