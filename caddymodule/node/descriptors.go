package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// A connection needs a file descriptor, and a process that has none left can neither accept nor reach Redis nor write its log. So fewer
// connections are let in than there are descriptors, whatever the limits say.

// fileReserve is how many of n file descriptors are kept for all that is no websocket: channel layer, proxied requests, files, logs.
// See docs/decisions/caddy.md#why-do-file-descriptors-bound-connections
func reservedDescriptors(n int) int { return max(64, min(n/32, 1024)) }

// lastOf is the first of the last of n file descriptors: a connection that gets one of them comes too late.
func firstLate(n int) int { return max(0, n-reservedDescriptors(n)/2) }

// withinFiles returns the limit on connections that n file descriptors leave of a configured one; 0 is none, for both.
func limitConnections(connections, n int) int {
	if n <= 0 {
		return connections
	}
	room := max(1, n-reservedDescriptors(n))
	if connections <= 0 {
		return room
	}
	return min(connections, room)
}

// limitByFiles lowers a limit that the file descriptors do not allow.
func (c *Config) LimitByDescriptors(configured bool) {
	c.Descriptors = DescriptorLimits{Max: maxDescriptors(), WantedConnections: c.Limits.Connections, Configured: configured}
	c.Limits.Connections = limitConnections(c.Descriptors.WantedConnections, c.Descriptors.Max)
}

// byFiles tells whether the limit on connections is due to the file descriptors.
func (c *Config) limitedByDescriptors() bool {
	return c.Limits.Connections != c.Descriptors.WantedConnections
}

// tellFiles logs that there can be fewer connections than the configuration asks for.
func (c *Config) logDescriptorLimit() {
	if !c.limitedByDescriptors() {
		return
	}
	level, wanted := slog.LevelInfo, any(c.Descriptors.WantedConnections)
	if c.Descriptors.Configured {
		level = slog.LevelWarn
	}
	if c.Descriptors.WantedConnections == 0 {
		wanted = "any number"
	}
	c.Log.Log(context.Background(), level, "there can be fewer websockets than the limit, for want of file descriptors; raise LimitNOFILE= of the systemd unit, or ulimit -n",
		"connections", c.Limits.Connections, "limit", wanted, "file_descriptors", c.Descriptors.Max)
}

// errNoFiles is why a connection is refused although the limits allow it.
var errNoDescriptors = errors.New("the relay holds as many connections as it can")

// lastFiles marks the context of connections that have one of the last file descriptors.
type lateConnKey struct{}

// watchFiles has a server mark such connections.
func (n *Node) MarkLastDescriptors(server *caddyhttp.Server, files int) {
	last, veryLast := firstLate(files), files-reservedDescriptors(files)/4
	server.RegisterConnState(n.conns.track)
	server.RegisterConnContext(func(ctx context.Context, c net.Conn) context.Context {
		number := descriptor(c)
		if number < last {
			return ctx
		}
		n.descriptors.active.Store(true)
		if !n.closeRequestless(number >= veryLast) {
			return context.WithValue(ctx, lateConnKey{}, true)
		}
		return ctx
	})
}

// makeRoom has connections without a request make room, if there are any.
func (n *Node) closeRequestless(emergency bool) bool {
	closed := n.conns.closeOldest(emergency)
	if closed == 0 {
		return false
	}
	n.descriptors.release(closed)
	n.Log.Warn("file descriptors are scarce; connections without a request are closed", "count", closed,
		"remedy", "raise LimitNOFILE= of the systemd unit, or ulimit -n; lower read_header in Caddy's timeouts")
	return true
}

// checkFiles refuses what came over a connection that is marked. Once there has been one, others are refused too while few descriptors are
// free and no connection without a request can make room, until none of the last is in use: connections that have one may stay when those
// below are given back, and taken again.
func (n *Node) CheckDescriptors(r *http.Request, files int) error {
	crowd := &n.descriptors
	if r.Context().Value(lateConnKey{}) != nil {
		return errNoDescriptors
	}
	if !crowd.active.Load() || crowd.take(files, time.Now()) {
		return nil
	}
	if n.closeRequestless(crowd.nearlyExhausted(files)) && crowd.take(files, time.Now()) {
		return nil
	}
	return errNoDescriptors
}

// crowd is set from the moment when nearly all file descriptors are in use until the last of them are free.
type descriptorGuard struct {
	active atomic.Bool

	mu      sync.Mutex
	counted time.Time
	free    int // by the last count, less the connections since
}

// countEvery is how often descriptors are counted at most; 100,000 take a few milliseconds.
const countInterval = 500 * time.Millisecond

// room takes one of n descriptors, if that leaves enough.
func (c *descriptorGuard) take(n int, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.counted) >= countInterval {
		last := firstLate(n)
		late := countDescriptors(last, n)
		c.counted, c.free = now, n-countDescriptors(0, last)-late
		if late == 0 { // their numbers tell again
			c.active.Store(false)
		}
	}
	if c.free < reservedDescriptors(n)/2 {
		return false
	}
	c.free--
	return true
}

// emergency tells whether hardly any of n descriptors are free.
func (c *descriptorGuard) nearlyExhausted(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.free < reservedDescriptors(n)/4
}

// gain notes that connections have been closed since the last count.
func (c *descriptorGuard) release(closed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.free += closed
}

// remedy adds to a refusal what its reader can do about it.
func (c *Config) WithRemedy(err error) error {
	if errors.Is(err, errNoDescriptors) || errors.Is(err, hub.ErrTooManyConnections) && c.limitedByDescriptors() {
		return fmt.Errorf("%w: nearly all of its %d file descriptors are in use; raise LimitNOFILE= of the systemd unit, or ulimit -n", err, c.Descriptors.Max)
	}
	return err
}

// descriptor is the number of a connection's file descriptor, -1 if it is unknown.
func descriptor(conn net.Conn) int {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return -1
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return -1
	}
	n := -1
	_ = raw.Control(func(fd uintptr) { n = int(min(fd, math.MaxInt32)) })
	return n
}
