//go:build linux

package main

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// streamFleet are clients with WebSockets over streams of HTTP/2. They count frames of events by their bytes, since all
// events of a measurement have the same length.
type streamFleet struct {
	addr    string
	answers bool // the server answers messages
	conns   []*streamConn
	ready   atomic.Int64 // streams that got their first frames
	bytes   atomic.Int64 // of DATA since the beginning
	failed  chan error
}

// streamConn is a connection.
type streamConn struct {
	net.Conn
	*http2.Framer
	mu sync.Mutex // orders writes
}

// manyBytes is a window that is never full in a measurement.
const manyBytes = 1<<31 - 1

// open opens connections with a number of streams each, one after another. Each client sends a message after the first
// frame.
func (f *streamFleet) open(connections, streams int) error {
	f.failed = make(chan error, connections)
	for range connections {
		c, err := f.dial()
		if err != nil {
			return err
		}
		f.conns = append(f.conns, c)
		go func() { f.failed <- f.read(c) }()
		for i := range streams {
			want := f.ready.Load() + 1
			if err := c.connect(uint32(2*i+1), f.addr); err != nil {
				return err
			}
			if err := f.await("a client", func() bool { return f.ready.Load() >= want }); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *streamFleet) dial() (*streamConn, error) {
	conn, err := tls.Dial("tcp", f.addr, &tls.Config{
		InsecureSkipVerify: true, ServerName: "127.0.0.1", NextProtos: []string{http2.NextProtoTLS},
	})
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	c := &streamConn{Conn: conn, Framer: http2.NewFramer(conn, conn)}
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if err := c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: manyBytes}); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return c, c.WriteWindowUpdate(0, manyBytes-65535)
}

// connect sends an extended CONNECT.
func (c *streamConn) connect(stream uint32, host string) error {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, f := range [][2]string{
		{":method", "CONNECT"},
		{":protocol", "websocket"},
		{":scheme", "https"},
		{":path", "/websocket/"},
		{":authority", host},
		{"sec-websocket-version", "13"},
		{"cookie", "csrftoken=t"},
	} {
		// Writing to a bytes.Buffer does not fail. The server keeps no table of fields.
		_ = e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1], Sensitive: true})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true})
}

// read counts the bytes of a connection until it ends.
func (f *streamFleet) read(c *streamConn) error {
	frames := map[uint32]int{} // of a stream, until it is ready
	for {
		frame, err := c.ReadFrame()
		if err != nil {
			return err
		}
		switch d := frame.(type) {
		case *http2.SettingsFrame:
			if d.IsAck() {
				continue
			}
			c.mu.Lock()
			err = c.WriteSettingsAck()
			c.mu.Unlock()
		case *http2.PingFrame:
			if !d.IsAck() {
				c.mu.Lock()
				err = c.WritePing(true, d.Data)
				c.mu.Unlock()
			}
		case *http2.DataFrame:
			f.bytes.Add(int64(len(d.Data())))
			n := frames[d.StreamID] + 1
			frames[d.StreamID] = n
			if n == 1 {
				err = c.send(d.StreamID, streamMessage)
			}
			if n == 1 && !f.answers || n == 2 && f.answers {
				f.ready.Add(1)
			}
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return fmt.Errorf("the server ends a stream: %v", frame)
		}
		if err != nil {
			return err
		}
	}
}

// send sends a text in a frame with a mask of zeros.
func (c *streamConn) send(stream uint32, text string) error {
	frame := []byte{0x81, 0x80 | 126}
	frame = binary.BigEndian.AppendUint16(frame, uint16(len(text)))
	frame = append(append(frame, 0, 0, 0, 0), text...)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.WriteData(stream, false, frame)
}

// await waits for a condition, or the end of a connection.
func (f *streamFleet) await(what string, met func() bool) error {
	deadline := time.Now().Add(stall)
	for !met() {
		select {
		case err := <-f.failed:
			return fmt.Errorf("waiting for %s: %w", what, err)
		case <-time.After(20 * time.Microsecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waiting for %s: nothing within %v", what, stall)
		}
	}
	return nil
}

func (f *streamFleet) close() {
	for _, c := range f.conns {
		_ = c.Conn.Close()
	}
}
