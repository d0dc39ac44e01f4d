package ws

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/edgerelay/edgerelay/relay/transport/httpstream"
)

// ConnectProtocol returns the protocol that an extended CONNECT asks for (RFC 8441 section 4, RFC 9220 section 3),
// empty if the request is another one. Servers of Go keep the pseudo-header :protocol of HTTP/2 among the headers, and
// quic-go puts that of HTTP/3 in place of the version.
func ConnectProtocol(r *http.Request) string {
	switch {
	case r.Method != http.MethodConnect:
	case r.ProtoMajor == 2:
		if values := r.Header[":protocol"]; len(values) > 0 {
			return values[0]
		}
	case r.ProtoMajor == 3 && r.Proto != "HTTP/3.0":
		return r.Proto
	}
	return ""
}

// IsExtendedConnect reports whether a request asks for a WebSocket over HTTP/2 or HTTP/3.
func IsExtendedConnect(r *http.Request) bool {
	return strings.EqualFold(ConnectProtocol(r), "websocket")
}

// checkExtendedConnect is [CheckUpgrade] for an extended CONNECT. The headers Upgrade, Connection and Sec-WebSocket-Key
// do not exist there, and so the status 426, which needs Upgrade, is not used.
func checkExtendedConnect(w http.ResponseWriter, r *http.Request) (status int, reason string) {
	switch {
	case !slices.Equal(r.Header.Values("Sec-Websocket-Version"), version):
		w.Header().Set("Sec-WebSocket-Version", "13")
		return http.StatusBadRequest, "only websocket version 13 is supported"
	case r.ContentLength >= 0: // also a stream that the client has ended with the request
		return http.StatusBadRequest, "a websocket needs a stream without an end and a content length"
	case httpstream.HandshakeOf(w) == nil:
		return http.StatusNotImplemented, "websockets need HTTP/1.1 here"
	}
	return 0, ""
}

// acceptStream is [Accept] for an extended CONNECT.
func (c *Conn) acceptStream(w http.ResponseWriter, r *http.Request, o Options) (*Conn, error) {
	handshake := httpstream.HandshakeOf(w)
	if handshake == nil {
		http.Error(w, "websockets need HTTP/1.1 here", http.StatusNotImplemented)
		return nil, fmt.Errorf("accepting a websocket: %s without a stream; call Accept within httpstream.Serve", r.Proto)
	}
	if o.Deflate {
		c.negotiate(w, r)
	}
	c.agree(w.Header(), r, o.Subprotocols)
	stream, err := handshake.Accept(w)
	if err != nil {
		return nil, fmt.Errorf("accepting a websocket over %s: %w", r.Proto, err)
	}
	o.Poller.Attach(c.IO(), stream, c)
	c.Touch()
	if len(o.Greeting) > 0 {
		c.SendAnswer(o.Greeting, 0)
	}
	return c, nil
}

// stream returns the stream of the connection, nil if the WebSocket has a connection of its own.
func (c *Conn) stream() *httpstream.Conn {
	s, _ := c.IO().NetConn().(*httpstream.Conn)
	return s
}

// ServeStream implements [httpstream.Protocol]. The caller of [httpstream.Serve] has no use for it.
func (c *Conn) ServeStream() { c.readUntilEnd() }

var _ httpstream.Protocol = (*Conn)(nil)
