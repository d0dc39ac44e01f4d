//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// emitter publishes events to a system's group, in order.
type emitter interface {
	// burst publishes n events of s as fast as the system accepts them and returns when all are accepted.
	burst(s *source, n int) error
	// one publishes one event and waits until the system has accepted it.
	one(s *source) error
	close()
}

// emitTimeout bounds one burst.
const emitTimeout = 5 * time.Minute

// lineEmitter publishes to the bare loop: one line per event, without a reply.
type lineEmitter struct {
	conn net.Conn
	w    *bufio.Writer
}

func newLineEmitter(addr string) (*lineEmitter, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connect to the bare loop: %w", err)
	}
	return &lineEmitter{conn: c, w: bufio.NewWriterSize(c, 64<<10)}, nil
}

func (e *lineEmitter) burst(s *source, n int) error {
	_ = e.conn.SetDeadline(time.Now().Add(emitTimeout))
	for range n {
		_, _ = e.w.Write(s.event())
		_ = e.w.WriteByte('\n')
	}
	return e.w.Flush()
}

func (e *lineEmitter) one(s *source) error { return e.burst(s, 1) }
func (e *lineEmitter) close()              { _ = e.conn.Close() }

// httpEmitter sends each event by POST on one connection. A burst is pipelined (RFC 9112, section 9.3.2), which keeps
// the order and saves only the waiting.
type httpEmitter struct {
	addr, path string
	header     string // more header lines, each ended by CRLF
	wrap       func(event []byte) []byte
	conn       net.Conn
	r          *bufio.Reader
	w          *bufio.Writer
	used       time.Time
}

// httpRest is the longest idle time after which a connection is used again. Servers close idle connections, Caddy's
// admin API after five seconds, and a ramp can take longer.
const httpRest = 2 * time.Second

// ready makes sure that there is a connection which the server has not closed.
func (e *httpEmitter) ready() error {
	if e.conn == nil || time.Since(e.used) > httpRest {
		e.close()
		c, err := net.Dial("tcp", e.addr)
		if err != nil {
			return fmt.Errorf("connect to %s to publish: %w", e.addr, err)
		}
		e.conn, e.r, e.w = c, bufio.NewReader(c), bufio.NewWriterSize(c, 64<<10)
	}
	_ = e.conn.SetDeadline(time.Now().Add(emitTimeout))
	return nil
}

func (e *httpEmitter) request(event []byte) {
	body := event
	if e.wrap != nil {
		body = e.wrap(event)
	}
	fmt.Fprintf(e.w, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n",
		e.path, e.addr, e.header, len(body))
	_, _ = e.w.Write(body)
}

func (e *httpEmitter) response() error {
	res, err := http.ReadResponse(e.r, nil)
	if err != nil {
		return fmt.Errorf("read the answer to a publish: %w", err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("read the answer to a publish: %w", err)
	}
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("publish refused: %s %s", res.Status, strings.TrimSpace(string(body)))
	}
	return nil
}

// pipelined is the limit of unanswered requests.
const pipelined = 64

func (e *httpEmitter) burst(s *source, n int) error {
	if err := e.ready(); err != nil {
		return err
	}
	defer func() { e.used = time.Now() }()
	sent := make(chan struct{}, pipelined)
	failed := make(chan error, 1)
	go func() {
		var err error
		for range n {
			if <-sent; err == nil {
				err = e.response()
			}
		}
		failed <- err
	}()
	for range n {
		e.request(s.event())
		if len(sent) == cap(sent) || e.w.Buffered() > 32<<10 {
			_ = e.w.Flush()
		}
		sent <- struct{}{}
	}
	if err := e.w.Flush(); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return <-failed
}

func (e *httpEmitter) one(s *source) error {
	if err := e.ready(); err != nil {
		return err
	}
	defer func() { e.used = time.Now() }()
	e.request(s.event())
	if err := e.w.Flush(); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return e.response()
}

func (e *httpEmitter) close() {
	if e.conn != nil {
		_ = e.conn.Close()
	}
}
