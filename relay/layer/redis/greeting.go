package redis

import (
	"context"
	"errors"
	"net"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
	"github.com/edgerelay/edgerelay/relay/internal/resp"
)

// Not every server, and few proxies, know HELLO (RESP3), and they refuse it in words of their own. Without it a link
// authenticates as of old and polls. What a server says only at the moment, such as BUSY, is not taken for its nature.

// errReexamine ends a connection without HELLO after that time.
var errReexamine = errors.New("the host is asked again whether it knows HELLO")

// open connects and greets. A host that hangs up at HELLO is tried once more at once, without.
func (l *link) open(ctx context.Context) (net.Conn, *resp.Conn, error) {
	nc, conn, err := l.openOnce(ctx)
	if !errors.Is(err, redisnet.ErrHungUp) {
		return nc, conn, err
	}
	l.quietUntil = time.Now().Add(redisnet.WithoutHello)
	l.route.SkipHello()
	nc, conn, again := l.openOnce(ctx)
	if again != nil { // it hangs up at everything: that is no proxy's dislike of HELLO
		l.quietUntil = time.Time{}
		return nil, nil, errors.Join(err, again)
	}
	return nc, conn, nil
}

func (l *link) openOnce(ctx context.Context) (net.Conn, *resp.Conn, error) {
	nc, err := l.route.Dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() }) // ends a read from a host that hangs
	defer stop()
	conn := resp.New(nc, l.pushed)
	conn.Answered = l.broker.hosts.Trips.Add
	if err := l.greet(conn); err != nil {
		_ = nc.Close()
		return nil, nil, err
	}
	return nc, conn, nil
}

// greet authenticates, selects the database and asks for notifications.
func (l *link) greet(conn *resp.Conn) error {
	notifies := false
	defer func() {
		l.mu.Lock()
		l.notifies = notifies
		l.mu.Unlock()
	}()
	o := l.route.Options
	knows, refused, err := l.hello(conn, o)
	if err != nil {
		return err
	}
	if o.DB != 0 {
		if _, err := conn.Do(redisnet.ReplyWait, "SELECT", strconv.Itoa(o.DB)); err != nil {
			return err
		}
	}
	if knows {
		// NOLOOP: what this connection changes itself is not news to it.
		_, err = conn.Do(redisnet.ReplyWait, "CLIENT", "TRACKING", "ON", "BCAST", "NOLOOP",
			"PREFIX", groupKey(l.broker.place.Prefix, ""), "PREFIX", l.channelKey())
		if err != nil && (!errors.As(err, &refused) || redisnet.Momentary(refused)) {
			return err
		}
		notifies = err == nil
	}
	if l.told != l.route && !notifies {
		l.told = l.route
		l.broker.log.Warn("redis does not notify of changes, polling", "host", l.route.Addr(), "error", refused,
			"remedy", "use Redis 6 or newer without a proxy, and allow the user HELLO and CLIENT TRACKING")
	}
	return nil
}

// hello authenticates, and reports whether the host knows RESP3, or how it refused it.
func (l *link) hello(conn *resp.Conn, o *goredis.Options) (knows bool, refused resp.Error, err error) {
	if time.Now().Before(l.quietUntil) {
		return false, resp.Error(redisnet.ErrHungUp.Error()), redisnet.Auth(conn, o)
	}
	hello := []string{"HELLO", "3"}
	if o.Password != "" {
		user := o.Username
		if user == "" {
			user = "default"
		}
		hello = append(hello, "AUTH", user, o.Password)
	}
	_, err = conn.Do(redisnet.ReplyWait, hello...)
	switch {
	case err == nil:
		return true, "", nil
	case redisnet.HangsUp(err):
		return false, "", redisnet.ErrHungUp
	case !errors.As(err, &refused), redisnet.RejectsLogin(refused), redisnet.Momentary(refused):
		return false, "", err
	}
	return false, refused, redisnet.Auth(conn, o)
}
