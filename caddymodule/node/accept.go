package node

import (
	"context"
	"net"
	"runtime"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// PaceAccepts lets a server accept a connection only when the goroutines that can run have run. When thousands of
// clients reconnect at once, they wait in the kernel's queue, and not as handshakes that have begun: a handshake with
// TLS needs half a millisecond of CPU, and every event for a connected client would wait for all of them.
// See docs/decisions/caddy.md#why-does-the-accept-loop-yield
func (n *Node) PaceAccepts(server *caddyhttp.Server) { server.RegisterConnContext(n.awaitTurn) }

// awaitTurn is called by the server's accept loop, between two connections.
func (n *Node) awaitTurn(ctx context.Context, _ net.Conn) context.Context {
	began := time.Now()
	runtime.Gosched()
	n.acceptPause.Add(int64(time.Since(began)))
	return ctx
}

// AcceptPause returns the total time for which accepting connections has waited for other work.
func (n *Node) AcceptPause() time.Duration { return time.Duration(n.acceptPause.Load()) }
