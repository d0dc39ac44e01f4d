package netpoll

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"reflect"
	"unsafe"
)

// tlsFields are the offsets of unexported fields in a [tls.Conn]. crypto/tls has no API for any of their uses. The test
// of [CheckTLS] guards against a Go release in which they are missing or mean something else.
//
// The handshake grows rawInput and hand to the size of the client's hello, and there they stay while the connection
// lives: 3.6 KiB without content, a third of the heap of an idle TLS connection.
type tlsFields struct {
	rawInput uintptr // bytes.Buffer: read from the socket, not decrypted yet
	hand     uintptr // bytes.Buffer: handshake messages
	input    uintptr // bytes.Reader: decrypted, not read yet
	inErr    uintptr // error: returned by every further read
	conn     uintptr // net.Conn: the connection beneath
}

// findTLSFields looks the fields up in a type that should be [tls.Conn].
func findTLSFields(conn reflect.Type) (f tlsFields, err error) {
	in, ok := conn.FieldByName("in")
	if !ok || in.Type.Kind() != reflect.Struct {
		return f, fmt.Errorf("%v has no field in; an update of edgerelay may support this Go release", conn)
	}
	for _, field := range []struct {
		parent reflect.Type
		name   string
		kind   reflect.Type
		base   uintptr
		offset *uintptr
	}{
		{conn, "rawInput", reflect.TypeFor[bytes.Buffer](), 0, &f.rawInput},
		{conn, "hand", reflect.TypeFor[bytes.Buffer](), 0, &f.hand},
		{conn, "input", reflect.TypeFor[bytes.Reader](), 0, &f.input},
		{in.Type, "err", reflect.TypeFor[error](), in.Offset, &f.inErr},
		{conn, "conn", reflect.TypeFor[net.Conn](), 0, &f.conn},
	} {
		found, ok := field.parent.FieldByName(field.name)
		if !ok || found.Type != field.kind {
			return f, fmt.Errorf("%v has no field %s of type %v; an update of edgerelay may support this Go release",
				field.parent, field.name, field.kind)
		}
		*field.offset = field.base + found.Offset
	}
	return f, nil
}

// field returns the field at an offset of [tlsFields].
func field[T any](c *tls.Conn, offset uintptr) *T { return (*T)(unsafe.Add(unsafe.Pointer(c), offset)) }

// holds reports whether a TLS connection has bytes to read that have left the socket, or has ended. No goroutine may be
// reading from it.
func (f *tlsFields) holds(c *tls.Conn) bool {
	return field[bytes.Reader](c, f.input).Len() > 0 || *field[error](c, f.inErr) != nil ||
		field[bytes.Buffer](c, f.rawInput).Len() > 0 || field[bytes.Buffer](c, f.hand).Len() > 0
}

// shrink releases the memory of a TLS connection's empty buffers. No goroutine may be reading from it.
// See docs/decisions/transport.md#why-are-the-empty-buffers-of-cryptotls-released-by-hand
func (f *tlsFields) shrink(c *tls.Conn) {
	for _, offset := range [...]uintptr{f.rawInput, f.hand} {
		if b := field[bytes.Buffer](c, offset); b.Len() == 0 {
			*b = bytes.Buffer{}
		}
	}
	if r := field[bytes.Reader](c, f.input); r.Len() == 0 { // the last record lies in the memory of rawInput
		*r = bytes.Reader{}
	}
}

// holds reports whether a TLS connection has bytes to read that have left the socket.
func (c *Conn) holds() bool {
	t, secure := c.net.(*tls.Conn)
	return secure && c.poller.tls.holds(t)
}
