package wstest

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// HTTP2 is an HTTP/2 connection of a client that opens WebSockets by extended CONNECT (RFC 8441).
type HTTP2 struct {
	// Conn is the TCP or TLS connection.
	Conn net.Conn
	conn http.RoundTripper
	url  string
}

// DialHTTP2 connects to an http:// or https:// URL without a path; certificates are not checked. The connection ends
// with the test.
func DialHTTP2(t testing.TB, url string) (*HTTP2, error) {
	scheme, host, _ := strings.Cut(url, "://")
	conn, err := net.DialTimeout("tcp", host, wireWait)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = conn.Close() })
	if scheme == "https" {
		name, _, _ := net.SplitHostPort(host)
		secure := tls.Client(conn, &tls.Config{
			InsecureSkipVerify: true, ServerName: name, NextProtos: []string{http2.NextProtoTLS},
		})
		if err := secure.Handshake(); err != nil {
			return nil, err
		}
		conn = secure
	}
	c := &HTTP2{Conn: conn, url: url}
	//lint:ignore SA1019 the client of net/http needs a pool of connections
	c.conn, err = (&http2.Transport{AllowHTTP: true}).NewClientConn(conn)
	return c, err
}

// Connect sends an extended CONNECT for a path, with the version of WebSocket and more header lines, which replace
// others. A line without a value removes the header. If the status is 200, the Wire is the stream. Otherwise the body
// is read.
func (c *HTTP2) Connect(path string, headers ...string) (*Wire, *http.Response, string, error) {
	ctx, cancel := context.WithCancel(context.Background())
	timer := time.AfterFunc(wireWait, cancel)
	in, out := io.Pipe()
	req, err := http.NewRequestWithContext(ctx, http.MethodConnect, c.url+path, in)
	if err != nil {
		cancel()
		return nil, nil, "", err
	}
	req.Header = http.Header{":protocol": {"websocket"}, "Sec-Websocket-Version": {"13"}}
	for _, h := range headers {
		at := 1 + strings.IndexByte(h[1:], ':') // not the colon that begins a pseudo-header
		name, value := h[:at], strings.TrimSpace(h[at+1:])
		if !strings.HasPrefix(name, ":") {
			name = http.CanonicalHeaderKey(name)
		}
		if delete(req.Header, name); value != "" {
			req.Header[name] = append(req.Header[name], value)
		}
	}
	resp, err := c.conn.RoundTrip(req)
	if err != nil {
		cancel()
		return nil, nil, "", err
	}
	if resp.StatusCode != http.StatusOK {
		_ = out.Close()
		body, err := io.ReadAll(resp.Body)
		cancel()
		return nil, resp, string(body), err
	}
	s := &http2Stream{resp.Body, out, func() {
		timer.Stop()
		cancel()
		_ = resp.Body.Close()
	}}
	_, host, _ := strings.Cut(c.url, "://")
	return NewWire(s, host), resp, "", nil
}

// Close ends the connection and all its streams.
func (c *HTTP2) Close() error { return c.Conn.Close() }

// http2Stream is a stream as a net.Conn.
type http2Stream struct {
	io.Reader
	*io.PipeWriter
	cancel func()
}

// Write writes to the server. Like a socket, the stream takes bytes after the server has ended it.
func (s *http2Stream) Write(b []byte) (int, error) {
	n, err := s.PipeWriter.Write(b)
	if errors.Is(err, io.ErrClosedPipe) {
		return len(b), nil
	}
	return n, err
}

// CloseWrite ends the client's direction.
func (s *http2Stream) CloseWrite() error { return s.PipeWriter.Close() }

// Close resets the stream.
func (s *http2Stream) Close() error {
	s.cancel()
	return s.CloseWithError(net.ErrClosed)
}

func (*http2Stream) LocalAddr() net.Addr              { return nil }
func (*http2Stream) RemoteAddr() net.Addr             { return nil }
func (*http2Stream) SetDeadline(time.Time) error      { return nil }
func (*http2Stream) SetReadDeadline(time.Time) error  { return nil }
func (*http2Stream) SetWriteDeadline(time.Time) error { return nil }
