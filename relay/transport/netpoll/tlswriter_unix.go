//go:build unix

package netpoll

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"sync"
)

const (
	// maxTryTLS is the longest write that TryWrite encrypts: about a record.
	maxTryTLS = 16 << 10
	// maxKept limits the kept bytes of replies, such as those to a KeyUpdate.
	maxKept = 1 << 20
)

// tlsWriter writes to a TLS connection without blocking. A record cannot be written in part, and the kernel does not
// say how much a socket will accept: each segment has overhead, and the client chooses the length of segments. So the
// tlsWriter stands under the TLS connection, in the socket's place, and keeps the bytes that the socket does not
// accept.
// See docs/decisions/transport.md#why-does-a-shim-under-tlsconn-write-the-records
type tlsWriter struct {
	net.Conn           // the socket
	fd       int32     // of the socket; noFD: raw writes
	raw      TryWriter // nil if there is a descriptor
	tls      *tls.Conn
	owner    Owner

	mu      sync.Mutex
	pending []byte
	leaving int // bytes that were pending and are being written; nothing may overtake them
	caller  caller
}

// caller is the side that made TLS write.
type caller uint8

const (
	fromRead  caller = iota // a read, for example the reply to a KeyUpdate
	fromTry                 // TryWrite: the Conn's lock is held, so that the descriptor is valid
	fromFlush               // Write, which flushes next
)

// attachTLS puts a tlsWriter under a TLS connection, if possible.
func (c *Conn) attachTLS(t *tls.Conn) {
	socket, early := unwrap(t.NetConn())
	if len(early) > 0 { // also if a wrapper stays
		field[bytes.Buffer](t, c.poller.tls.rawInput).Write(early)
	}
	w := &tlsWriter{Conn: socket, fd: socketOf(socket), tls: t, owner: c.owner}
	if w.fd == noFD {
		if w.raw = c.poller.rawWriterOf(socket); w.raw == nil {
			return
		}
	}
	*field[net.Conn](t, c.poller.tls.conn) = w
	c.writer, c.fd = w, w.fd
}

// NetConn returns the connection beneath, as [tls.Conn.NetConn] does.
func (w *tlsWriter) NetConn() net.Conn { return w.Conn }

var errKeptTooMuch = errors.New("client does not read the replies that it asks for")

// Write is called by the TLS connection.
func (w *tlsWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	if w.caller == fromTry && len(w.pending) == 0 && w.leaving == 0 {
		var err error
		if w.fd != noFD {
			n, err = send(w.fd, b)
		} else {
			n, err = w.raw.TryWrite(b)
		}
		if err != nil || n == len(b) {
			return n, err
		}
	}
	if len(w.pending) > maxKept {
		return n, errKeptTooMuch
	}
	w.pending = append(w.pending, b[n:]...)
	if w.caller == fromRead { // TLS holds a lock here, so the owner's lock must not be taken
		go w.owner.FlushSoon()
	}
	return len(b), nil
}

// tryWrite encrypts all of b or nothing. Bytes that the socket does not accept are kept.
func (w *tlsWriter) tryWrite(b []byte) (n, kept int, err error) {
	if len(b) > maxTryTLS {
		return 0, 0, nil
	}
	return w.encrypt(b, fromTry)
}

// encrypt makes TLS write all of b. Bytes that the socket does not accept are kept.
func (w *tlsWriter) encrypt(b []byte, from caller) (n, kept int, err error) {
	w.mu.Lock()
	w.caller = from
	w.mu.Unlock()
	n, err = w.tls.Write(b)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.caller = fromRead
	return n, len(w.pending), err
}

// kept returns how many bytes the socket has not accepted.
func (w *tlsWriter) kept() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.pending) + w.leaving
}

func (w *tlsWriter) write(b []byte, out writeFunc) error {
	for len(b) > 0 {
		n, _, err := w.encrypt(b[:min(len(b), pieceSize)], fromFlush)
		if err == nil {
			err = w.flush(out)
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// flush writes the bytes that are kept through out, which may block.
func (w *tlsWriter) flush(out writeFunc) error {
	for {
		w.mu.Lock()
		b := w.pending
		w.pending, w.leaving = nil, len(b)
		w.mu.Unlock()
		if len(b) == 0 {
			return nil
		}
		if err := out(w.Conn, b); err != nil {
			return err
		}
	}
}
