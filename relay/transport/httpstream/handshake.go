package httpstream

import (
	"fmt"
	"net/http"
	"runtime/debug"
)

// Options are the options of [Serve].
type Options struct {
	// Open returns the stream of the request, after the response's status has been written through the wrappers of
	// handlers. w is the server's own ResponseWriter. Open flushes the response's header. Required.
	Open func(w http.ResponseWriter) (Stream, error)
	// Cut closes the TCP connection beneath the stream, if a write does not return although the stream is aborted. If
	// nil, the stream's goroutine waits for the end of the connection.
	Cut func()
	// Set gets the connection until its end, if it is not nil.
	Set *Set
}

// Handshake is the ResponseWriter of a handshake.
type Handshake struct {
	http.ResponseWriter
	o    Options
	conn *Conn
}

// Unwrap is called by [http.ResponseController].
func (h *Handshake) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// HandshakeOf returns the Handshake beneath w, nil if there is none.
func HandshakeOf(w http.ResponseWriter) *Handshake {
	for {
		switch u := w.(type) {
		case *Handshake:
			return u
		case interface{ Unwrap() http.ResponseWriter }:
			w = u.Unwrap()
		default:
			return nil
		}
	}
}

// Accept answers with status 200 through w, which is the Handshake or a wrapper of it, and takes the stream. The caller
// has set the response's headers.
func (h *Handshake) Accept(w http.ResponseWriter) (*Conn, error) {
	w.WriteHeader(http.StatusOK)
	stream, err := h.o.Open(innermost(h.ResponseWriter))
	if err != nil {
		return nil, err
	}
	h.conn = &Conn{stream: stream, cut: h.o.Cut, set: h.o.Set}
	h.o.Set.add(h.conn)
	return h.conn, nil
}

// innermost returns the writer beneath all wrappers.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = u.Unwrap()
	}
}

// Serve calls handshake, and serves the connection that handshake accepts, if any, until its end. If the stream
// outlives the server's handler, Serve returns after the handshake.
//
// The handshake has a goroutine of its own. It needs a deep stack, to authenticate the client for example, and a stack
// does not become smaller while its goroutine is deep inside the handlers of the server.
func Serve(w http.ResponseWriter, o Options, handshake func(w http.ResponseWriter)) {
	h := &Handshake{ResponseWriter: w, o: o}
	done := make(chan any)
	go func() {
		var failure any = errExited
		defer func() { done <- failure }()
		defer func() {
			if p := recover(); p != nil {
				failure = withStack(p)
			}
		}()
		handshake(h)
		failure = nil
	}()
	failure := <-done
	conn := h.conn
	switch {
	case conn == nil:
	case failure != nil || conn.served == nil:
		_ = conn.Close()
		conn.finish()
	case conn.stream.OutlivesHandler():
		go conn.run()
	default:
		conn.run()
	}
	if failure != nil {
		panic(failure) // the server answers, and logs
	}
}

// run serves the connection.
func (c *Conn) run() {
	c.served.ServeStream()
	c.finish()
}

// errExited is the failure of a handshake that called runtime.Goexit.
var errExited = fmt.Errorf("the handshake's goroutine exited")

// withStack adds the stack of the handshake to a panic, because the server logs the stack of its own goroutine.
func withStack(p any) any {
	if p == http.ErrAbortHandler {
		return p
	}
	return fmt.Errorf("%v; in the handshake:\n%s", p, debug.Stack())
}
