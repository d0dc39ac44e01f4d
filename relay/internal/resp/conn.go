// Package resp implements the Redis protocol on one connection, for tasks beyond a pooled client.
package resp

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// Conn is a connection to Redis with RESP3 or RESP2. It waits for notifications between commands, and reads a batch of
// messages into one piece of memory. One goroutine may read while another sends.
// See docs/decisions/layers.md#why-is-there-a-redis-client-of-our-own-for-the-mailbox
type Conn struct {
	net.Conn
	r    *bufio.Reader
	out  []byte
	room []byte // shared by small elements of replies
	// Push receives every notification. The reading goroutine calls Push, and may replace the function.
	Push func(kind string, args [][]byte)
	// Answered, if not nil, is called with the latency of each round trip, at the first reply.
	Answered func(latency time.Duration)
	asked    time.Time // when the commands in flight were sent
}

// New returns a Conn on a connection. push receives notifications.
func New(c net.Conn, push func(kind string, args [][]byte)) *Conn {
	return &Conn{Conn: c, r: bufio.NewReaderSize(c, 64<<10), Push: push}
}

// Buffered returns the number of received bytes that are not read yet.
func (c *Conn) Buffered() int { return c.r.Buffered() }

// Error is an error reply of Redis.
type Error string

// Error implements error.
func (e Error) Error() string { return string(e) }

// appendCommand appends the encoding of a command.
func appendCommand(b []byte, args []string) []byte {
	b = append(b, '*')
	b = strconv.AppendInt(b, int64(len(args)), 10)
	b = append(b, "\r\n"...)
	for _, a := range args {
		b = append(b, '$')
		b = strconv.AppendInt(b, int64(len(a)), 10)
		b = append(append(append(b, "\r\n"...), a...), "\r\n"...)
	}
	return b
}

// SendAll sends commands in one write. Their replies must arrive within wait.
func (c *Conn) SendAll(wait time.Duration, commands ...[]string) error {
	if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	c.asked = time.Now() // Not in Send: another goroutine may read meanwhile.
	return c.Send(wait, commands...)
}

// Send sends commands in one write, within wait. Another goroutine may read meanwhile.
func (c *Conn) Send(wait time.Duration, commands ...[]string) error {
	if err := c.SetWriteDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	c.out = c.out[:0]
	for _, args := range commands {
		c.out = appendCommand(c.out, args)
	}
	_, err := c.Write(c.out)
	return err
}

// Do sends a command and reads the reply, within wait.
func (c *Conn) Do(wait time.Duration, args ...string) ([][]byte, error) {
	if err := c.SendAll(wait, args); err != nil {
		return nil, err
	}
	return c.Reply()
}

// Reply reads the next reply: the elements of an array, or a single element. Notifications before the reply go to Push.
// Elements of replies share memory.
func (c *Conn) Reply() ([][]byte, error) {
	for {
		kind, n, text, err := c.header()
		if err != nil {
			return nil, err
		}
		if kind == '>' {
			if err := c.readPush(n); err != nil {
				return nil, err
			}
			continue
		}
		if c.Answered != nil && !c.asked.IsZero() { // the first reply of a round trip
			c.Answered(time.Since(c.asked))
			c.asked = time.Time{}
		}
		switch kind {
		case '*', '~', '%':
			if kind == '%' {
				n *= 2
			}
			return c.elements(n, 0)
		case '-', '!':
			if kind == '!' {
				b, err := c.bulk(nil, n)
				if err != nil {
					return nil, err
				}
				text = string(b)
			}
			return nil, Error(text)
		case '$', '=':
			b, err := c.bulk(nil, n)
			return [][]byte{b}, err
		default:
			return [][]byte{[]byte(text)}, nil
		}
	}
}

// Wait reads one notification, or returns the error of the deadline.
func (c *Conn) Wait() error {
	if _, err := c.r.Peek(1); err != nil {
		return err
	}
	kind, n, _, err := c.header()
	if err == nil && kind != '>' {
		return fmt.Errorf("redis sent %q where only a notification can come", kind)
	}
	if err == nil {
		err = c.readPush(n)
	}
	if err != nil { // Not the deadline's error: the bytes that were read are gone.
		return fmt.Errorf("%w: a notification broke off: %v", ErrProtocol, err)
	}
	return nil
}

// ErrProtocol means that the host does not use RESP.
var ErrProtocol = errors.New("the host does not use the Redis protocol")

// header reads the first line of a value: kind, and length or text.
func (c *Conn) header() (kind byte, n int, text string, err error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, 0, "", err
	}
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return 0, 0, "", ErrProtocol
	}
	kind, line = line[0], line[1:len(line)-2]
	switch kind {
	case '*', '$', '>', '~', '%', '!', '=':
		n, err = strconv.Atoi(string(line))
		if err != nil || n < -1 || n > 1<<29 {
			return 0, 0, "", ErrProtocol
		}
		return kind, n, "", nil
	case '+', '-', ':', ',', '#', '_', '(':
		return kind, 0, string(line), nil
	}
	return 0, 0, "", ErrProtocol
}

// Bounds on a reply. The replies to the relay's commands are flat.
const (
	maxDepth = 4
	roomSize = 64 << 10
)

// elements reads n values and nested values as a flat list.
func (c *Conn) elements(n, depth int) ([][]byte, error) {
	if depth > maxDepth {
		return nil, ErrProtocol
	}
	list := make([][]byte, 0, max(0, min(n, 4096)))
	for range n {
		kind, n, text, err := c.header()
		if err != nil {
			return nil, err
		}
		switch kind {
		case '$', '=', '!':
			var b []byte
			if n > roomSize/4 || n < 0 {
				b, err = c.bulk(nil, n)
			} else {
				if n > cap(c.room)-len(c.room) {
					c.room = make([]byte, 0, roomSize)
				}
				b, err = c.bulk(c.room[len(c.room):len(c.room):len(c.room)+n], n)
				c.room = c.room[:len(c.room)+n]
			}
			if err != nil {
				return nil, err
			}
			list = append(list, b)
		case '*', '~', '%', '>':
			if kind == '%' {
				n *= 2
			}
			inner, err := c.elements(n, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, inner...)
		default:
			list = append(list, []byte(text))
		}
	}
	return list, nil
}

// bulk reads n bytes and the line end, into room if they fit. A null has n = -1.
func (c *Conn) bulk(room []byte, n int) ([]byte, error) {
	if n < 0 {
		return nil, nil
	}
	b := room[:0]
	if cap(b) < n {
		b = make([]byte, 0, min(n, 1<<20))
	}
	for len(b) < n { // Grows with the bytes that arrive, not with the announced length.
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		part := b[len(b):min(cap(b), n)]
		if _, err := io.ReadFull(c.r, part); err != nil {
			return nil, err
		}
		b = b[:len(b)+len(part)]
	}
	if _, err := c.r.Discard(2); err != nil {
		return nil, err
	}
	return b[:n:n], nil
}

// readPush reads a notification of n elements: the kind, and the rest as a flat list without nulls.
func (c *Conn) readPush(n int) error {
	list, err := c.elements(n, 0)
	if err != nil || len(list) == 0 {
		return err
	}
	args := list[1:1]
	for _, a := range list[1:] {
		if len(a) > 0 {
			args = append(args, a)
		}
	}
	c.Push(string(list[0]), args)
	return nil
}

// Complete reports whether the next value, a flat list, has arrived, so that Reply does not block.
func (c *Conn) Complete() bool {
	b, _ := c.r.Peek(c.r.Buffered())
	line := func() (kind byte, n int, ok bool) {
		end := bytes.IndexByte(b, '\n')
		if end < 2 {
			return 0, 0, false
		}
		kind = b[0]
		n, err := strconv.Atoi(string(b[1 : end-1]))
		b = b[end+1:]
		return kind, n, err == nil
	}
	kind, n, ok := line()
	if !ok || kind != '*' && kind != '>' {
		return false
	}
	for range n {
		kind, size, ok := line()
		if !ok {
			return false
		}
		if kind == '$' && size >= 0 {
			if size > len(b)-2 {
				return false
			}
			b = b[size+2:]
		}
	}
	return true
}
