//go:build unix

package ws

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"syscall"
)

// tlsAtOnce is the longest write to a TLS connection that a worker encrypts itself: about a record.
const tlsAtOnce = 16 << 10

// tlsWriter writes to a TLS connection without waiting. A record cannot be written by halves, and nobody can tell beforehand what a
// socket will take: the kernel counts its own overhead for each segment, and the client chooses how long these are. So the tlsWriter stands under the TLS connection, in the
// socket's place, and keeps what the socket does not take.
type tlsWriter struct {
	net.Conn // the socket
	raw      rawWriter
	number   int32 // of the socket, noSocket if it has none
	tls      *tls.Conn
	owner    *Conn

	mu       sync.Mutex
	kept     []byte
	settling int // bytes that were kept and are being written; nothing may overtake them
	who      attendant
}

// attendant is who looks, after a write, whether something is kept.
type attendant uint8

const (
	nobody  attendant = iota // who reads, and has been asked for a new key, say
	worker                   // it holds the owner's lock, so that the socket's number is good
	flusher                  // it writes at once what is kept
)

// newTLSWriter puts a tlsWriter under a TLS connection. It returns nil where that cannot be done.
func newTLSWriter(owner *Conn) *tlsWriter {
	t, ok := owner.net.(*tls.Conn)
	if !ok || len(tlsSocket) != 1 {
		return nil
	}
	sc, ok := t.NetConn().(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	w := &tlsWriter{Conn: t.NetConn(), raw: rawWriter{raw}, number: owner.watched, tls: t, owner: owner}
	*at[net.Conn](t, tlsSocket[0]) = w
	return w
}

// NetConn returns the connection beneath, as [tls.Conn.NetConn] does.
func (w *tlsWriter) NetConn() net.Conn { return w.Conn }

var errNotTaken = errors.New("the client does not take what it asks for")

// Write is called by the TLS connection.
func (w *tlsWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	if w.who == worker && len(w.kept) == 0 && w.settling == 0 {
		var err error
		if w.number != noSocket {
			n, err = sendNow(w.number, b)
		} else {
			n, err = w.raw.tryWrite(b)
		}
		if err != nil || n == len(b) {
			return n, err
		}
	}
	if len(w.kept) > maxControlQueue {
		return n, errNotTaken
	}
	w.kept = append(w.kept, b[n:]...)
	if w.who == nobody { // and may not wait for the owner's lock, because the TLS connection's is held
		go w.owner.settleSoon()
	}
	return len(b), nil
}

// tryWrite writes all of b or nothing. What the socket has not taken of it is kept. The owner's lock is held.
func (w *tlsWriter) tryWrite(b []byte) (n, kept int, err error) {
	if len(b) > tlsAtOnce {
		return 0, 0, nil
	}
	return w.encrypt(b, worker)
}

// encrypt writes all of b. What the socket has not taken of it is kept.
func (w *tlsWriter) encrypt(b []byte, who attendant) (n, kept int, err error) {
	w.mu.Lock()
	w.who = who
	w.mu.Unlock()
	n, err = w.tls.Write(b)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.who = nobody
	return n, len(w.kept), err
}

// waiting is how many bytes the socket has not taken. It may be called on nil.
func (w *tlsWriter) waiting() int {
	if w == nil {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.kept) + w.settling
}

// settle writes what is kept by means of write, which may wait.
func (w *tlsWriter) settle(write func(net.Conn, []byte) error) error {
	for {
		w.mu.Lock()
		b := w.kept
		w.kept, w.settling = nil, len(b)
		w.mu.Unlock()
		if len(b) == 0 {
			return nil
		}
		if err := write(w.Conn, b); err != nil {
			return err
		}
	}
}
