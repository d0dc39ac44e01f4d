//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"syscall"
	"time"
)

// read reads client i's socket.
func (c *crowd) read(i int) {
	cl := &c.clients[i]
	if cl.state == crowdClosed {
		return
	}
	kept := copy(c.buf, c.rest[i])
	n, err := rawRead(int(cl.fd), c.buf[kept:])
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return
	}
	if n <= 0 {
		c.end(i)
		return
	}
	left := c.consume(i, c.buf[:kept+n])
	switch {
	case len(left) > 0:
		c.rest[i] = bytes.Clone(left)
	case kept > 0:
		delete(c.rest, i)
	}
}

// consume handles what client i has received, and returns the incomplete rest.
func (c *crowd) consume(i int, b []byte) []byte {
	cl := &c.clients[i]
	if cl.state == crowdUpgrading {
		at := bytes.Index(b, []byte("\r\n\r\n"))
		if at < 0 {
			return b
		}
		if !bytes.HasPrefix(b, []byte("HTTP/1.1 101 ")) {
			c.failed = fmt.Errorf("client %d: handshake refused: %.200q", i, b[:at])
			return nil
		}
		b = b[at+4:]
		cl.state = crowdJoining
		rawWrite(int(cl.fd), crowdSubscribe)
	}
	for {
		f, n, err := parseFrame(b)
		if err != nil {
			c.failed = fmt.Errorf("client %d: %w", i, err)
			return nil
		}
		if n == 0 {
			return b
		}
		b = b[n:]
		c.frame(i, cl, f)
	}
}

var (
	crowdSubscribe = appendClientFrame(nil, opText, subscription([]string{benchGroup}, ""))
	crowdPong      = appendClientFrame(nil, opPong, nil)
)

// frame handles a frame of the server.
func (c *crowd) frame(i int, cl *crowdClient, f frame) {
	switch {
	case f.op == opPing:
		c.countPing(cl)
		pong := crowdPong
		if len(f.payload) > 0 {
			pong = appendClientFrame(nil, opPong, f.payload)
		}
		rawWrite(int(cl.fd), pong)
	case f.op == opClose:
		cl.code = 1005
		if len(f.payload) >= 2 {
			cl.code = binary.BigEndian.Uint16(f.payload)
		}
		rawWrite(int(cl.fd), appendClientFrame(nil, opClose, f.payload[:min(2, len(f.payload))]))
	case f.op != opText:
	case cl.state == crowdJoining:
		if bytes.Contains(f.payload, []byte(`"groups_current"`)) {
			cl.state = crowdOpen
			c.open++
			c.dialNext()
		}
	default:
		_, micros, ok := parseEvent(f.payload)
		switch {
		case !ok:
		case cl.event:
			c.answer.Doubled++
		default:
			cl.event = true
			c.answer.Events++
			c.answer.Last = time.Now().UnixMicro()
			c.answer.Latency.record(c.answer.Last - micros)
		}
	}
}

// countPing counts a ping, also by tenths of a second.
func (c *crowd) countPing(cl *crowdClient) {
	c.pings++
	if cl.pings < 255 {
		cl.pings++
	}
	if slot := time.Now().UnixMilli() / 100; slot != c.slot {
		c.slot, c.inNow = slot, 0
	}
	c.inNow++
	c.answer.Lump = max(c.answer.Lump, c.inNow)
}

// end records the end of a connection.
func (c *crowd) end(i int) {
	cl := &c.clients[i]
	if cl.state != crowdOpen {
		c.failed = fmt.Errorf("client %d: the server ended the connection before it was open", i)
	}
	_ = syscall.Close(int(cl.fd))
	cl.state = crowdClosed
	delete(c.rest, i)
	c.ended++
	c.answer.Closed[int(cl.code)]++
	c.answer.Last = time.Now().UnixMicro()
}
