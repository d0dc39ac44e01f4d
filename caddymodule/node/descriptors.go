package node

import (
	"context"
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
	"github.com/edgerelay/edgerelay/relay/transport/netpoll"
)

// Each connection needs a file descriptor. A process without a free descriptor can neither accept connections nor reach
// Redis nor write its log. The number of connections therefore stays below the number of descriptors.

// reservedDescriptors returns how many of n descriptors are reserved for other uses than WebSockets: the channel layer,
// proxied requests, files and logs.
// See docs/decisions/caddy.md#why-do-file-descriptors-bound-connections
func reservedDescriptors(n int) int { return max(64, min(n/32, 1024)) }

// firstLate returns the lowest of the last of n descriptors. A connection with such a descriptor is late: the relay
// rejects the connection unless another connection can be closed.
func firstLate(n int) int { return max(0, n-reservedDescriptors(n)/2) }

// limitConnections lowers a limit on connections to the number that n descriptors allow. 0 means no limit, for both.
func limitConnections(connections, n int) int {
	if n <= 0 {
		return connections
	}
	most := max(1, n-reservedDescriptors(n))
	if connections <= 0 {
		return most
	}
	return min(connections, most)
}

// LimitByDescriptors lowers the limit on connections to the number that the process's file descriptors allow.
// configured tells whether the operator has set the limit.
func (c *Config) LimitByDescriptors(configured bool) {
	c.Descriptors = DescriptorLimits{
		Max: maxDescriptors(), WantedConnections: c.Limits.Connections, Configured: configured,
	}
	c.Limits.Connections = limitConnections(c.Descriptors.WantedConnections, c.Descriptors.Max)
}

// limitedByDescriptors reports whether file descriptors, and not the configuration, set the limit on connections.
func (c *Config) limitedByDescriptors() bool {
	return c.Limits.Connections != c.Descriptors.WantedConnections
}

// logDescriptorLimit logs that the file descriptors allow fewer connections than the configuration.
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
	c.Log.Log(context.Background(), level, "file descriptors limit connections",
		"connections", c.Limits.Connections, "limit", wanted, "file_descriptors", c.Descriptors.Max,
		"remedy", raiseNoFile)
}

// raiseNoFile is the remedy for a lack of file descriptors.
const raiseNoFile = "raise LimitNOFILE= of the systemd unit, or ulimit -n"

// errNoDescriptors rejects a connection that the limits allow but the file descriptors do not.
var errNoDescriptors = errors.New("too many connections")

// lateConnKey marks the context of a connection that has one of the last file descriptors.
type lateConnKey struct{}

// MarkLastDescriptors lets a server mark connections that have one of the last descriptors, see
// [Node.CheckDescriptors]. files is the number of descriptors that the process may open.
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

// closeRequestless closes some connections without a request. It reports whether there were any.
func (n *Node) closeRequestless(emergency bool) bool {
	closed := n.conns.closeOldest(emergency)
	if closed == 0 {
		return false
	}
	n.descriptors.release(closed)
	n.Log.Warn("file descriptors scarce, connections without request closed", "count", closed,
		"remedy", raiseNoFile+"; lower read_header in Caddy's timeouts")
	return true
}

// CheckDescriptors returns an error if no file descriptor is left for the request's connection. It rejects marked
// connections. After the first mark it counts descriptors and also rejects unmarked connections while few are free and
// no connection without a request can be closed. Numbers alone do not suffice then: a long-lived connection may hold a
// high descriptor while lower ones become free. The counting ends when none of the last descriptors is in use.
func (n *Node) CheckDescriptors(r *http.Request, files int) error {
	guard := &n.descriptors
	if r.Context().Value(lateConnKey{}) != nil {
		return errNoDescriptors
	}
	if !guard.active.Load() || guard.take(files, time.Now()) {
		return nil
	}
	if n.closeRequestless(guard.nearlyExhausted(files)) && guard.take(files, time.Now()) {
		return nil
	}
	return errNoDescriptors
}

// descriptorGuard counts free descriptors while descriptors are scarce. The guard is active from the first connection
// with one of the last descriptors until all of the last descriptors are free.
type descriptorGuard struct {
	active atomic.Bool

	mu      sync.Mutex // guards counted and free
	counted time.Time
	free    int // at the last count, minus the connections since
}

// countInterval is the shortest time between two counts. A count of 100,000 descriptors takes a few milliseconds.
const countInterval = 500 * time.Millisecond

// take reserves one of n descriptors. It reports false if too few would remain.
func (c *descriptorGuard) take(n int, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.counted) >= countInterval {
		last := firstLate(n)
		late := countDescriptors(last, n)
		c.counted, c.free = now, n-countDescriptors(0, last)-late
		if late == 0 { // numbers suffice again
			c.active.Store(false)
		}
	}
	if c.free < reservedDescriptors(n)/2 {
		return false
	}
	c.free--
	return true
}

// nearlyExhausted reports whether hardly any of n descriptors are free.
func (c *descriptorGuard) nearlyExhausted(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.free < reservedDescriptors(n)/4
}

// release records connections that have been closed since the last count.
func (c *descriptorGuard) release(closed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.free += closed
}

// WithRemedy adds cause and remedy to the error of a rejected connection if file descriptors are the cause.
func (c *Config) WithRemedy(err error) error {
	if errors.Is(err, errNoDescriptors) || errors.Is(err, hub.ErrTooManyConnections) && c.limitedByDescriptors() {
		return fmt.Errorf("%w: nearly all of %d file descriptors are in use; %s", err, c.Descriptors.Max, raiseNoFile)
	}
	return err
}

// descriptor returns the number of a connection's file descriptor, or -1 if it is unknown.
func descriptor(conn net.Conn) int {
	if socket := netpoll.SocketBeneath(conn); socket != nil {
		conn = socket
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
