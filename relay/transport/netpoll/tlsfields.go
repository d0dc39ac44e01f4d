package netpoll

import (
	"bytes"
	"crypto/tls"
	"net"
	"reflect"
	"unsafe"
)

// tlsBuffers are the places in a [tls.Conn] of the two buffers that hold what has come and is not used yet. The handshake grows them to
// the size of the client's hello, and there they stay for as long as the connection lives: 3.6 KiB with nothing
// in them, a third of all that an idle TLS connection keeps on the heap. crypto/tls has no way to give them back. Where a
// later Go has no such fields, they stay.
var tlsBuffers = fields[bytes.Buffer](reflect.TypeFor[tls.Conn](), "rawInput", "hand")

// tlsInput is the place of what is decrypted and has not been read yet.
var tlsInput = fields[bytes.Reader](reflect.TypeFor[tls.Conn](), "input")

// tlsFailed is the place of the error that every further read gives. The last words of a client and the end behind them can come with one read.
var tlsFailed = func() []uintptr {
	in, ok := reflect.TypeFor[tls.Conn]().FieldByName("in")
	if !ok || in.Type.Kind() != reflect.Struct {
		return nil
	}
	offsets := fields[error](in.Type, "err")
	for i := range offsets {
		offsets[i] += in.Offset
	}
	return offsets
}()

// tlsSocket is the place of the connection beneath.
var tlsSocket = fields[net.Conn](reflect.TypeFor[tls.Conn](), "conn")

// tlsTells reports whether [tlsHolds] can be asked.
var tlsTells = len(tlsBuffers) == 2 && len(tlsInput) == 1 && len(tlsFailed) == 1

// tlsHolds reports whether a TLS connection holds bytes that it has read from its socket, or knows that it has ended. Nobody may be reading from it.
func tlsHolds(c *tls.Conn) bool {
	if at[bytes.Reader](c, tlsInput[0]).Len() > 0 || *at[error](c, tlsFailed[0]) != nil {
		return true
	}
	for _, offset := range tlsBuffers {
		if at[bytes.Buffer](c, offset).Len() > 0 {
			return true
		}
	}
	return false
}

// holds reports whether a TLS connection has bytes to read that have left the socket.
func (c *Conn) holds() bool {
	t, secure := c.net.(*tls.Conn)
	return secure && tlsHolds(t)
}

// fields returns the offsets of those of the named fields that are a T.
func fields[T any](t reflect.Type, names ...string) (offsets []uintptr) {
	for _, name := range names {
		if f, ok := t.FieldByName(name); ok && f.Type == reflect.TypeFor[T]() {
			offsets = append(offsets, f.Offset)
		}
	}
	return offsets
}

// at is the T at an offset of [fields].
func at[T any](c *tls.Conn, offset uintptr) *T { return (*T)(unsafe.Add(unsafe.Pointer(c), offset)) }

// shrinkTLS gives back the memory of a TLS connection's empty buffers. No goroutine may be reading from it.
func shrinkTLS(c *tls.Conn) {
	for _, offset := range tlsBuffers {
		if b := at[bytes.Buffer](c, offset); b.Len() == 0 {
			*b = bytes.Buffer{}
		}
	}
}
