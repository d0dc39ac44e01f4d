// Package httpstream makes connections of streams: a stream is a part of a connection of HTTP/2 or HTTP/3, as a request
// and its response are, and carries bytes in both directions. A client opens one by an extended CONNECT (RFC 8441,
// RFC 9220).
//
// [Serve] runs a handshake for a request. A protocol, such as package ws, takes the stream with [Handshake.Accept] and
// says with [Conn.Serve] how to read it. [Conn] is a [net.Conn] for package netpoll, with the rules that a stream adds:
// one goroutine writes at a time, and nothing uses the stream after the server's handler has returned.
package httpstream

import (
	"io"
	"net/http"
	"time"
)

// Stream is what an HTTP server offers of a stream. One goroutine reads and one writes. The other methods may be called
// by further goroutines at the same time, except End.
type Stream interface {
	io.Reader
	// Write writes and flushes all of b, and blocks while the client's windows are full.
	io.Writer
	// StopReading makes Read return an error.
	StopReading()
	// Abort ends both directions at once, so that Read and Write return. The client sees that the end is not orderly.
	Abort()
	// End ends the outgoing direction after the last Write. No method is called after End.
	End()
	// OutlivesHandler reports whether the stream may be used after the HTTP server's handler has returned.
	OutlivesHandler() bool
}

// NewHTTP2 returns the stream of a request to an HTTP/2 server of package net/http or golang.org/x/net/http2. w is the
// server's own ResponseWriter, and body the request's own body, both without the wrappers of handlers. The response's
// header has been flushed.
func NewHTTP2(w http.ResponseWriter, body io.ReadCloser) Stream {
	return &http2Stream{body, w, http.NewResponseController(w)}
}

type http2Stream struct {
	io.ReadCloser
	w       http.ResponseWriter
	control *http.ResponseController
}

// Write implements [Stream]. The server copies b.
func (s *http2Stream) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	if err == nil {
		err = s.control.Flush()
	}
	return n, err
}

// StopReading implements [Stream].
func (s *http2Stream) StopReading() { _ = s.Close() }

// past is a deadline that has passed. Of all methods of a ResponseWriter, only a write deadline ends a Write that waits
// for the client's window: the server resets the stream.
var past = time.Unix(1, 0)

// Abort implements [Stream].
func (s *http2Stream) Abort() {
	_ = s.control.SetWriteDeadline(past)
	_ = s.Close()
}

// End implements [Stream]. The server ends the stream when the handler returns.
func (*http2Stream) End() {}

// OutlivesHandler implements [Stream].
func (*http2Stream) OutlivesHandler() bool { return false }
