package ws

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/textproto"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/edgerelay/edgerelay/relay/transport/netpoll"
)

// Options are the options of [Accept].
type Options struct {
	// Poller wakes the connection when bytes arrive. Required.
	Poller *netpoll.Poller
	// MessageLimit returns the length in bytes of the longest message that the client may send. Each frame is checked
	// against a new result, so that the limit can change while the connection is open.
	MessageLimit func() int
	// Greeting is a sequence of encoded frames that follows the response in the same write.
	Greeting []byte
	// Subprotocols are the subprotocols that the server speaks, in order of preference. Empty: none.
	Subprotocols []string
	// Deflate accepts offers of permessage-deflate (RFC 7692): the client may compress its messages, and Choose returns
	// forms other than relay.Plain.
	Deflate bool
}

// Accept upgrades a request to a WebSocket. The caller has called [CheckUpgrade] and checked the origin. Accept writes
// the response, also before it returns an error.
//
// Over HTTP/2 and HTTP/3, Accept must be called by the handshake of [httpstream.Serve]. The caller then serves the
// connection by returning from the handshake, after [Conn.Attend].
func Accept(w http.ResponseWriter, r *http.Request, o Options) (*Conn, error) {
	c := &Conn{limit: o.MessageLimit}
	if IsExtendedConnect(r) {
		return c.acceptStream(w, r, o)
	}
	key := acceptKey(r.Header.Get("Sec-WebSocket-Key"))
	if o.Deflate {
		c.negotiate(w, r)
	}
	first := c.respond(w, r, key, o.Subprotocols)
	if err := c.hijack(o.Poller, innermost(w)); err != nil {
		return nil, rejectUpgrade(w, err)
	}
	if first = append(first, o.Greeting...); len(first) > 0 {
		c.SendAnswer(first, 0)
	}
	return c, nil
}

// rejectUpgrade responds if the connection cannot be hijacked.
func rejectUpgrade(w http.ResponseWriter, err error) error {
	for _, name := range []string{
		"Upgrade", "Connection", "Sec-WebSocket-Accept", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions",
	} {
		w.Header().Del(name)
	}
	http.Error(w, "websocket upgrades are not supported on this connection", http.StatusNotImplemented)
	return fmt.Errorf("upgrading to websocket: %w; serve this path over HTTP/1.1, without a handler that buffers", err)
}

// respond sets the headers that complete the handshake, and returns the response for the first write. Behind a wrapper
// that must see the response, respond writes at once and returns nil.
func (c *Conn) respond(w http.ResponseWriter, r *http.Request, key string, subprotocols []string) []byte {
	h := w.Header()
	h.Set("Upgrade", "websocket")
	h.Set("Connection", "Upgrade")
	h.Set("Sec-WebSocket-Accept", key)
	c.agree(h, r, subprotocols)
	if innermost(w) != w { // such as an access log
		w.WriteHeader(http.StatusSwitchingProtocols)
		return nil
	}
	return appendResponse(make([]byte, 0, 512), h)
}

// agree sets the header of the first of subprotocols that the client asks for.
func (c *Conn) agree(h http.Header, r *http.Request, subprotocols []string) {
	for _, p := range subprotocols {
		if hasToken(r.Header, "Sec-WebSocket-Protocol", p) {
			h.Set("Sec-WebSocket-Protocol", p)
			c.subprotocol = p
			return
		}
	}
}

// hijack takes the connection over, with the bytes that the client has sent already.
func (c *Conn) hijack(p *netpoll.Poller, w http.ResponseWriter) error {
	nc, early, err := hijack(w)
	if err != nil {
		return err
	}
	if early = append(early, p.Attach(c.IO(), nc, c)...); len(early) > 0 {
		c.early = bytes.NewReader(early)
	}
	c.Touch()
	return nil
}

func hijack(w http.ResponseWriter) (conn net.Conn, early []byte, err error) {
	conn, rw, err := http.NewResponseController(w).Hijack() // clears the request's deadlines
	if err != nil {
		return nil, nil, err
	}
	if n := rw.Reader.Buffered(); n > 0 {
		buffered, _ := rw.Reader.Peek(n)
		early = bytes.Clone(buffered) // rw may be reused
	}
	return conn, early, nil
}

// innermost returns the writer beneath all wrappers. A wrapper, such as that of an access log, would stay between the
// Conn and the socket for the life of the connection.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = u.Unwrap()
	}
}

// appendResponse appends the response that completes the handshake. net/http would also sort the headers, which takes a
// deep stack.
func appendResponse(b []byte, h http.Header) []byte {
	b = append(b, "HTTP/1.1 101 Switching Protocols\r\n"...)
	for name, values := range h {
		if !httpguts.ValidHeaderFieldName(name) {
			continue
		}
		for _, v := range values {
			b = append(append(append(b, name...), ": "...), textproto.TrimString(oneLine.Replace(v))...)
			b = append(b, "\r\n"...)
		}
	}
	return append(b, "\r\n"...)
}

var oneLine = strings.NewReplacer("\n", " ", "\r", " ")

// acceptKey returns the value that proves to the client that the server speaks WebSocket (RFC 6455 section 4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(strings.TrimSpace(key) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}
