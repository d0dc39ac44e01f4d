package netpoll

import (
	"errors"
	"net"
	"os"
	"reflect"
	"time"
)

// A wrapperType is the package path and the name of a wrapper's type.
type wrapperType struct{ path, name string }

// passThrough has the wrappers that only look at the first bytes of a connection and hand on the rest, in both
// directions, unchanged. A wrapper that is not listed may count, limit or change bytes, so it stays.
// See docs/decisions/transport.md#why-are-known-listener-wrappers-taken-off-a-connection
var passThrough = map[wrapperType]func(net.Conn) net.Conn{
	// The PROXY protocol: its header comes first.
	{"github.com/pires/go-proxyproto", "Conn"}: func(c net.Conn) net.Conn {
		if c, ok := c.(interface{ Raw() net.Conn }); ok {
			return c.Raw()
		}
		return nil
	},
	// Caddy: a server without HTTP/1.1 or without HTTP/2 looks for the preface of HTTP/2.
	{"github.com/caddyserver/caddy/v2/modules/caddyhttp", "http2Conn"}: embeddedConn,
	// Caddy's http_redirect looks for a plain request on a port with TLS. Its buffer stays in use, so it must be drained.
	{"github.com/caddyserver/caddy/v2/modules/caddyhttp", "httpRedirectConn"}: embeddedConn,
}

// embeddedConn returns the embedded connection of a pointer to a struct, nil if there is none.
func embeddedConn(conn net.Conn) net.Conn {
	field, ok := reflect.TypeOf(conn).Elem().FieldByName("Conn")
	if !ok || !field.Anonymous || field.Type != reflect.TypeFor[net.Conn]() {
		return nil
	}
	beneath, _ := reflect.ValueOf(conn).Elem().FieldByIndex(field.Index).Interface().(net.Conn)
	return beneath
}

// isSocket reports whether a connection is a socket of the kernel and nothing else.
func isSocket(conn net.Conn) bool {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
}

// socketBeneath returns the socket beneath any number of wrappers of passThrough, nil if there is none.
func socketBeneath(conn net.Conn) net.Conn {
	for conn != nil && !isSocket(conn) {
		t := reflect.TypeOf(conn)
		if t.Kind() != reflect.Pointer {
			return nil
		}
		take := passThrough[wrapperType{t.Elem().PkgPath(), t.Elem().Name()}]
		if take == nil {
			return nil
		}
		conn = take(conn)
	}
	return conn
}

// SocketBeneath returns the socket beneath TLS and beneath the wrappers that [Poller.Attach] takes off, nil if there is
// none. The wrappers may hold bytes of the socket, so that a caller must not read.
func SocketBeneath(conn net.Conn) net.Conn {
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS
		conn = t.NetConn()
		if w, ok := conn.(interface{ NetConn() net.Conn }); ok { // a connection that has been attached
			conn = w.NetConn()
		}
	}
	return socketBeneath(conn)
}

// unwrap returns the socket beneath a connection's wrappers, and the bytes that they have read from the socket and not
// returned. A connection that must keep its wrappers is returned as it is.
func unwrap(conn net.Conn) (socket net.Conn, early []byte) {
	if isSocket(conn) {
		return conn, nil
	}
	socket = socketBeneath(conn)
	if socket == nil {
		return conn, nil
	}
	early, drained := drain(conn)
	if !drained {
		return conn, early
	}
	return socket, early
}

// drain returns the bytes that wrappers hold, and takes none from the socket: a read with a deadline in the past
// fails there, but succeeds as long as a wrapper has bytes. drained is false if the wrapper may hold an error or more
// bytes.
func drain(conn net.Conn) (held []byte, drained bool) {
	if err := conn.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return nil, false
	}
	defer func() { _ = conn.SetReadDeadline(time.Time{}) }()
	const most = 1 << 20 // far more than any of the buffers
	b := make([]byte, 256)
	for len(held) < most {
		n, err := conn.Read(b)
		held = append(held, b[:n]...)
		if err != nil {
			return held, errors.Is(err, os.ErrDeadlineExceeded)
		}
	}
	return held, false
}
