package redis

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
	"github.com/edgerelay/edgerelay/relay/internal/resp"
)

// reader reads this node's mailbox on one host. On the same connection Redis notifies of changes to the mailbox and to
// the groups of the host.
type reader struct {
	broker   *Broker
	host     int
	receiver string // this node's channel name on the host, up to and including '!'
	sink     relay.Sink

	mu        sync.Mutex
	conn      *resp.Conn    // nil while there is none
	notifies  bool          // Redis notifies of changes
	finishing chan struct{} // not nil once finish was called; closed when all messages have been delivered
	finished  bool

	// The fields below belong to the reading goroutine.

	route    *redisnet.Route // of the connection
	mailbox  mailbox
	writes   writeProbe
	greeting greeting
	losses   lossWatch
	replays  *replays
	former   bool // reads from a former master, beside the reader of the current master
	events   []relay.Event
	left     []relay.Event // events of a batch for groups that this node has left, which only the history gets
	loaded   *history      // the history that is prepared on this connection; nil: none
	commands [][]string    // reused

	recording recording
	lookedAt  atomic.Int64 // when Redis last answered with the contents of the mailbox, in Unix nanoseconds
}

func newReader(b *Broker, host int) *reader {
	r := &reader{
		broker: b, host: host, receiver: newReceiver(b.hosts, host),
		mailbox: mailbox{batch: batchMax}, replays: &replays{},
	}
	r.lookedAt.Store(time.Now().UnixNano()) // The mailbox is new and empty.
	return r
}

// channelKey is the sorted set to which emitters add this node's messages.
func (r *reader) channelKey() string { return r.broker.place.Prefix + r.receiver }

// inflightKey is the sorted set from which messages are read. The name is outside every emitter's prefix, and short,
// because every command contains the name.
func (r *reader) inflightKey() string { return inflightKey(r.broker.place.Prefix, r.receiver) }

func inflightKey(prefix, receiver string) string {
	return prefix + "$" + receiver[len("specific."):][:16]
}

// run keeps the connection up until ctx ends.
func (r *reader) run(ctx context.Context) {
	r.broker.health.KeepConnected(ctx, r.host, func(ctx context.Context) error {
		err := r.session(ctx)
		if r.moved() || errors.Is(err, errReexamine) {
			return redisnet.ErrReplaced
		}
		return err
	})
}

// session connects, and reads until the connection breaks.
func (r *reader) session(ctx context.Context) error {
	r.route = r.broker.hosts.Route(r.host)
	nc, conn, err := r.open(ctx)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = nc.Close() })() // ends a read from a host that hangs
	lingers := false
	defer func() {
		if !lingers {
			_ = nc.Close()
		}
	}()
	r.setConn(conn)
	defer r.setConn(nil)
	r.writes = writeProbe{}
	if err := r.probe(conn); err != nil { // A replica is of no use; the host does not count as found.
		return err
	}
	r.broker.health.Connected(r.host)
	r.foundMaster(nc)
	r.broker.members.verifyHost(r.host) // Memberships may have vanished without a notification.
	r.mailbox.happen(connected)
	r.replays.begin()
	r.loaded = nil
	for ctx.Err() == nil {
		if err := r.loadHistory(ctx); err != nil {
			return err
		}
		switch {
		case r.moved():
			return redisnet.ErrReplaced
		case r.greeting.reexamine():
			return errReexamine
		case redisnet.Former(nc):
			lingers = true
			r.linger(ctx, nc, conn)
			return redisnet.ErrFormer
		}
		if err := r.step(conn); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (r *reader) setConn(conn *resp.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conn = conn
}

// lingerMax is how long a former master is read from.
const lingerMax = time.Minute

// linger continues to read from a former master while the reader goes on to the current master. Sentinels can take ten
// seconds to demote a master, and until they cut emitters off, emitters send there. The same messages may be in flight
// on both masters, so the reader looks on both.
// See docs/decisions/layers.md#why-is-a-former-master-read-until-the-connection-ends
func (r *reader) linger(ctx context.Context, nc net.Conn, conn *resp.Conn) {
	old := r.atFormer()
	r.mailbox.happen(connectedInFlight)
	r.replays.lingering.Add(1)
	conn.Push = old.pushed
	r.broker.life.Go(func() {
		defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
		for end := time.Now().Add(lingerMax); redisnet.Former(nc) && time.Now().Before(end); {
			if err := old.step(conn); err != nil {
				break
			}
		}
		_ = conn.Close()
		r.replays.lingering.Add(-1)
	})
}

// atFormer returns the reader that continues to read from a former master. Both readers share replays.
func (r *reader) atFormer() *reader {
	old := &reader{
		broker: r.broker, host: r.host, receiver: r.receiver, sink: r.sink, route: r.route, notifies: r.notified(),
		mailbox: r.mailbox, losses: r.losses, replays: r.replays, former: true,
	}
	old.mailbox.happen(notified)
	return old
}

// moved reports whether there is a new route to the host.
func (r *reader) moved() bool { return r.route != r.broker.hosts.Route(r.host) }

// pushed receives a notification: the keys have changed, or with no key, all may have.
// See docs/decisions/layers.md#why-does-client-tracking-wake-the-reader
func (r *reader) pushed(kind string, keys [][]byte) {
	if kind != "invalidate" {
		return
	}
	if len(keys) == 0 {
		r.loaded = nil // The history is gone, too.
		r.mailbox.happen(notified)
		r.broker.members.verifyHost(r.host)
		return
	}
	var groups []string
	for _, k := range keys {
		if string(k) == r.channelKey() {
			r.mailbox.happen(notified)
		} else if g, ok := bytes.CutPrefix(k, []byte(groupKey(r.broker.place.Prefix, ""))); ok {
			groups = append(groups, string(g))
		}
	}
	r.broker.members.verify(groups)
}

// notified reports whether the host notifies of changes.
func (r *reader) notified() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.notifies
}

// interrupt ends the wait for a notification.
func (r *reader) interrupt() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn != nil {
		_ = r.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// finish waits until all messages in the mailbox have been delivered. Groups must have been left before.
func (r *reader) finish(ctx context.Context) error {
	r.mu.Lock()
	if r.finishing == nil {
		r.finishing = make(chan struct{})
	}
	done := r.finishing
	r.mu.Unlock()
	r.interrupt()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// isFinishing reports whether finish waits.
func (r *reader) isFinishing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.finishing != nil && !r.finished
}

// emptied ends the wait of finish: the mailbox is empty.
func (r *reader) emptied() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.finishing != nil && !r.finished {
		r.finished = true
		close(r.finishing)
	}
}
