package ws

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
var tlsBuffers = bufferFields(reflect.TypeFor[tls.Conn](), "rawInput", "hand")

// bufferFields returns the offsets of those of the named fields that are a [bytes.Buffer].
func bufferFields(t reflect.Type, names ...string) (offsets []uintptr) {
	for _, name := range names {
		if f, ok := t.FieldByName(name); ok && f.Type == reflect.TypeFor[bytes.Buffer]() {
			offsets = append(offsets, f.Offset)
		}
	}
	return offsets
}

// shrinkTLS gives back the memory of a TLS connection's empty buffers. Nobody may be reading from it.
func shrinkTLS(conn net.Conn) {
	c, ok := conn.(*tls.Conn)
	if !ok {
		return
	}
	for _, offset := range tlsBuffers {
		if b := (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(c), offset)); b.Len() == 0 {
			*b = bytes.Buffer{}
		}
	}
}
