package redis

import (
	"context"
	"errors"
	"net"
	"strconv"
	"time"

	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
	"github.com/edgerelay/edgerelay/relay/internal/resp"
)

// greeting is the known reaction of a host to HELLO. Not every server, and few proxies, know HELLO (RESP3), and they
// use
// errors of their own to reject HELLO. Without HELLO a reader authenticates with AUTH and polls. A momentary state of
// the server, such as BUSY, is not taken for a property of the server.
type greeting struct {
	withoutUntil time.Time       // until then HELLO is not sent
	warned       *redisnet.Route // logged as a route without notifications
}

// errReexamine ends a connection without HELLO, to find out whether the host knows HELLO now.
var errReexamine = errors.New("the host is asked again whether it knows HELLO")

// reexamine reports whether errReexamine is due.
func (g *greeting) reexamine() bool {
	if g.withoutUntil.IsZero() || time.Now().Before(g.withoutUntil) {
		return false
	}
	g.withoutUntil = time.Time{}
	return true
}

// open connects and greets. A host that hangs up at HELLO is tried once more at once, without HELLO.
// See docs/decisions/layers.md#when-is-a-host-greeted-without-hello
func (r *reader) open(ctx context.Context) (net.Conn, *resp.Conn, error) {
	nc, conn, err := r.openOnce(ctx)
	if !errors.Is(err, redisnet.ErrHungUp) {
		return nc, conn, err
	}
	r.greeting.withoutUntil = time.Now().Add(redisnet.HelloPause)
	r.route.SkipHello()
	nc, conn, again := r.openOnce(ctx)
	if again != nil { // The host hangs up at everything, so HELLO is not the reason.
		r.greeting.withoutUntil = time.Time{}
		return nil, nil, errors.Join(err, again)
	}
	return nc, conn, nil
}

func (r *reader) openOnce(ctx context.Context) (net.Conn, *resp.Conn, error) {
	nc, err := r.route.Dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() }) // ends a read from a host that hangs
	defer stop()
	conn := resp.New(nc, r.pushed)
	conn.Answered = r.broker.hosts.Trips.Add
	if err := r.greet(conn); err != nil {
		_ = nc.Close()
		return nil, nil, err
	}
	return nc, conn, nil
}

// greet authenticates, selects the database and asks for notifications.
func (r *reader) greet(conn *resp.Conn) error {
	r.setNotifies(false)
	o := r.route.Options
	known, refused := false, resp.Error(redisnet.ErrHungUp.Error())
	var err error
	if time.Now().Before(r.greeting.withoutUntil) {
		err = redisnet.Auth(conn, o)
	} else {
		known, refused, err = redisnet.Hello(conn, o)
	}
	if err != nil {
		return err
	}
	if o.DB != 0 {
		if _, err := conn.Do(redisnet.ReplyTimeout, "SELECT", strconv.Itoa(o.DB)); err != nil {
			return err
		}
	}
	if known {
		// NOLOOP: Redis does not notify of changes that this connection makes.
		_, err = conn.Do(redisnet.ReplyTimeout, "CLIENT", "TRACKING", "ON", "BCAST", "NOLOOP",
			"PREFIX", groupKey(r.broker.place.Prefix, ""), "PREFIX", r.channelKey())
		if err == nil {
			r.setNotifies(true)
			return nil
		}
		if !errors.As(err, &refused) || redisnet.Momentary(refused) {
			return err
		}
	}
	if r.greeting.warned != r.route {
		r.greeting.warned = r.route
		r.broker.log.Warn("redis does not notify of changes, polling", "host", r.route.Addr(), "error", refused,
			"remedy", "use Redis 6 or newer without a proxy, and allow the user HELLO and CLIENT TRACKING")
	}
	return nil
}

func (r *reader) setNotifies(notifies bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notifies = notifies
}
