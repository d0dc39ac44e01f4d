package node

import (
	"net"

	"github.com/edgerelay/edgerelay/relay/protocol/awx"
	"github.com/edgerelay/edgerelay/relay/protocol/channels"
	"github.com/edgerelay/edgerelay/relay/transport/netpoll"
	"github.com/edgerelay/edgerelay/relay/transport/ws"
)

// RouteOptions returns the options of a WebSocket of a route, which has the limits of the route. c is the configuration
// of the site, which may serve before the configuration is current.
func (n *Node) RouteOptions(c *Config, route *channels.Route, first []byte, subprotocols []string) ws.Options {
	return ws.Options{
		Poller: n.poller, MessageLimit: route.MessageLimit(), Greeting: first, Subprotocols: subprotocols,
		Deflate: c.Compression != nil,
	}
}

// WSOptions returns the options of a client's websocket that begins with a greeting. c is as in RouteOptions.
func (n *Node) WSOptions(c *Config, greeting []byte) ws.Options {
	return ws.Options{
		Poller: n.poller, MessageLimit: n.frameSize, Greeting: greeting, Subprotocols: subprotocols,
		Deflate: c.Compression != nil,
	}
}

// TuneConnection sets the kernel's options for clients on a connection that stays the HTTP server's, such as that
// beneath streams of HTTP/2. All its requests are concerned.
func (n *Node) TuneConnection(conn net.Conn) {
	if timeout := n.poller.UnackedTimeout(); timeout > 0 {
		netpoll.LimitUnacked(conn, timeout)
	}
}

// subprotocols are those that clients may opt in to. A browser fails a handshake that agrees on none of those it has
// asked for, so the answer does not depend on the configuration.
var subprotocols = []string{awx.EventsSubprotocol}
