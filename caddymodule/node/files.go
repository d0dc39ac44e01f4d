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
func fileReserve(n int) int { return max(64, min(n/32, 1024)) }

// lastOf is the first of the last of n file descriptors: a connection that gets one of them comes too late.
func lastOf(n int) int { return max(0, n-fileReserve(n)/2) }

// withinFiles returns the limit on connections that n file descriptors leave of a configured one; 0 is none, for both.
func withinFiles(connections, n int) int {
	if n <= 0 {
		return connections
	}
	room := max(1, n-fileReserve(n))
	if connections <= 0 {
		return room
	}
	return min(connections, room)
}

// limitByFiles lowers a limit that the file descriptors do not allow.
func (c *Config) LimitByFiles(configured bool) {
	c.Files = fileLimits{Open: openFiles(), Wanted: c.Limits.Connections, Configured: configured}
	c.Limits.Connections = withinFiles(c.Files.Wanted, c.Files.Open)
}

// byFiles tells whether the limit on connections is due to the file descriptors.
func (c *Config) byFiles() bool { return c.Limits.Connections != c.Files.Wanted }

// tellFiles logs that there can be fewer connections than the configuration asks for.
func (c *Config) tellFiles() {
	if !c.byFiles() {
		return
	}
	level, wanted := slog.LevelInfo, any(c.Files.Wanted)
	if c.Files.Configured {
		level = slog.LevelWarn
	}
	if c.Files.Wanted == 0 {
		wanted = "any number"
	}
	c.Log.Log(context.Background(), level, "there can be fewer websockets than the limit, for want of file descriptors; raise LimitNOFILE= of the systemd unit, or ulimit -n",
		"connections", c.Limits.Connections, "limit", wanted, "file_descriptors", c.Files.Open)
}

// errNoFiles is why a connection is refused although the limits allow it.
var errNoFiles = errors.New("the relay holds as many connections as it can")

// lastFiles marks the context of connections that have one of the last file descriptors.
type lastFiles struct{}

// watchFiles has a server mark such connections.
func (n *Node) WatchFiles(server *caddyhttp.Server, files int) {
	last, veryLast := lastOf(files), files-fileReserve(files)/4
	server.RegisterConnState(n.Waiting.track)
	server.RegisterConnContext(func(ctx context.Context, c net.Conn) context.Context {
		number := descriptor(c)
		if number < last {
			return ctx
		}
		n.crowd.on.Store(true)
		if !n.makeRoom(number >= veryLast) {
			return context.WithValue(ctx, lastFiles{}, true)
		}
		return ctx
	})
}

// makeRoom has connections without a request make room, if there are any.
func (n *Node) makeRoom(emergency bool) bool {
	closed := n.Waiting.makeRoom(emergency)
	if closed == 0 {
		return false
	}
	n.crowd.gain(closed)
	n.Log.Warn("file descriptors are scarce; connections without a request are closed", "count", closed,
		"remedy", "raise LimitNOFILE= of the systemd unit, or ulimit -n; lower read_header in Caddy's timeouts")
	return true
}

// checkFiles refuses what came over a connection that is marked. Once there has been one, others are refused too while few descriptors are
// free and no connection without a request can make room, until none of the last is in use: connections that have one may stay when those
// below are given back, and taken again.
func (n *Node) CheckFiles(r *http.Request, files int) error {
	crowd := &n.crowd
	if r.Context().Value(lastFiles{}) != nil {
		return errNoFiles
	}
	if !crowd.on.Load() || crowd.room(files, time.Now()) {
		return nil
	}
	if n.makeRoom(crowd.emergency(files)) && crowd.room(files, time.Now()) {
		return nil
	}
	return errNoFiles
}

// crowd is set from the moment when nearly all file descriptors are in use until the last of them are free.
type crowd struct {
	on atomic.Bool

	mu      sync.Mutex
	counted time.Time
	free    int // by the last count, less the connections since
}

// countEvery is how often descriptors are counted at most; 100,000 take a few milliseconds.
const countEvery = 500 * time.Millisecond

// room takes one of n descriptors, if that leaves enough.
func (c *crowd) room(n int, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.counted) >= countEvery {
		last := lastOf(n)
		late := usedFiles(last, n)
		c.counted, c.free = now, n-usedFiles(0, last)-late
		if late == 0 { // their numbers tell again
			c.on.Store(false)
		}
	}
	if c.free < fileReserve(n)/2 {
		return false
	}
	c.free--
	return true
}

// emergency tells whether hardly any of n descriptors are free.
func (c *crowd) emergency(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.free < fileReserve(n)/4
}

// gain notes that connections have been closed since the last count.
func (c *crowd) gain(closed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.free += closed
}

// remedy adds to a refusal what its reader can do about it.
func (c *Config) Remedy(err error) error {
	if errors.Is(err, errNoFiles) || errors.Is(err, hub.ErrTooManyConnections) && c.byFiles() {
		return fmt.Errorf("%w: nearly all of its %d file descriptors are in use; raise LimitNOFILE= of the systemd unit, or ulimit -n", err, c.Files.Open)
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
