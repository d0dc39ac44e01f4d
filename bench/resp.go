//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// respConn speaks RESP2 to Redis. Queuing commands and reading replies are separate, so that the caller decides on
// pipelines.
type respConn struct {
	conn net.Conn
	r    *bufio.Reader
	w    *bufio.Writer
}

// respReply is one reply: text for strings and numbers, array for arrays.
type respReply struct {
	text  string
	array []respReply
}

func dialRESP(addr string) (*respConn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connect to Redis: %w", err)
	}
	return &respConn{conn: c, r: bufio.NewReaderSize(c, 64<<10), w: bufio.NewWriterSize(c, 64<<10)}, nil
}

func (c *respConn) queue(args ...string) {
	fmt.Fprintf(c.w, "*%d\r\n", len(args))
	for _, a := range args {
		_, _ = c.w.WriteString("$")
		_, _ = c.w.WriteString(strconv.Itoa(len(a)))
		_, _ = c.w.WriteString("\r\n")
		_, _ = c.w.WriteString(a)
		_, _ = c.w.WriteString("\r\n")
	}
}

// flush sends the queued commands and reports earlier write errors.
func (c *respConn) flush() error {
	_ = c.conn.SetDeadline(time.Now().Add(emitTimeout))
	return c.w.Flush()
}

// do sends one command and returns its reply.
func (c *respConn) do(args ...string) (respReply, error) {
	c.queue(args...)
	if err := c.flush(); err != nil {
		return respReply{}, err
	}
	return c.reply()
}

// reply reads one reply; Redis's own errors are errors.
func (c *respConn) reply() (respReply, error) {
	line, err := c.r.ReadString('\n')
	if err != nil {
		return respReply{}, err
	}
	if len(line) < 3 {
		return respReply{}, fmt.Errorf("odd reply %q", line)
	}
	kind, rest := line[0], line[1:len(line)-2]
	switch kind {
	case '+', ':':
		return respReply{text: rest}, nil
	case '-':
		return respReply{}, errors.New(rest)
	case '$', '*':
		n, err := strconv.Atoi(rest)
		if err != nil {
			return respReply{}, fmt.Errorf("odd length in reply %q", line)
		}
		if n < 0 {
			return respReply{}, nil
		}
		if kind == '$' {
			b := make([]byte, n+2)
			_, err := io.ReadFull(c.r, b)
			return respReply{text: string(b[:n])}, err
		}
		a := respReply{array: make([]respReply, n)}
		for i := range a.array {
			if a.array[i], err = c.reply(); err != nil {
				return a, err
			}
		}
		return a, nil
	}
	return respReply{}, fmt.Errorf("odd reply %q", line)
}

func (c *respConn) close() { _ = c.conn.Close() }
