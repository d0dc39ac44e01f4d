package ws_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
)

// TestConformance covers RFC 6455 by the categories of the Autobahn suite.
func TestConformance(t *testing.T) {
	const text, binaryFrame, cont, fin, ping, pong, closing = 0x1, 0x2, 0x0, 0x80, 0x89, 0x8a, 0x88
	long := strings.Repeat("x", 4000)
	for _, c := range []struct {
		name string
		send [][]byte
		want func(*client)
	}{
		{"text", [][]byte{frame(fin|text, "hello")}, func(c *client) { c.want(0x81, "hello") }},
		{"empty text", [][]byte{frame(fin|text, "")}, func(c *client) { c.want(0x81, "") }},
		{"length 125, 126, 127", [][]byte{
			frame(fin|text, long[:125]), frame(fin|text, long[:126]), frame(fin|text, long[:127]),
		}, func(c *client) {
			c.want(0x81, long[:125])
			c.want(0x81, long[:126])
			c.want(0x81, long[:127])
		}},
		{"16-bit length", [][]byte{frame(fin|text, long)}, func(c *client) { c.want(0x81, long) }},
		{"binary is read", [][]byte{frame(fin|binaryFrame, "b\xff")}, func(c *client) { c.want(0x81, "b\xff") }},
		{"fragments", [][]byte{frame(text, "one "), frame(cont, "two "), frame(fin|cont, "three")}, func(c *client) {
			c.want(0x81, "one two three")
		}},
		{"a ping between fragments", [][]byte{frame(text, "one "), frame(ping, "p"), frame(fin|cont, "two")}, func(c *client) {
			c.want(pong, "p")
			c.want(0x81, "one two")
		}},
		{"a character split over fragments", [][]byte{frame(text, "\xc3"), frame(fin|cont, "\xa9")}, func(c *client) {
			c.want(0x81, "é")
		}},
		{"ping with 125 bytes", [][]byte{frame(ping, long[:125])}, func(c *client) { c.want(pong, long[:125]) }},
		{"empty ping", [][]byte{frame(ping, "")}, func(c *client) { c.want(pong, "") }},
		{"unasked pong", [][]byte{frame(pong, "?"), frame(fin|text, "on")}, func(c *client) { c.want(0x81, "on") }},
		{"ping too long", [][]byte{frame(ping, long[:126])}, func(c *client) { c.wantClose(1002) }},
		{"fragmented ping", [][]byte{frame(0x9, "p")}, func(c *client) { c.wantClose(1002) }},
		{"reserved bits", [][]byte{frame(fin|0x40|text, "x")}, func(c *client) { c.wantClose(1002) }},
		{"reserved opcode", [][]byte{frame(fin|0x3, "x")}, func(c *client) { c.wantClose(1002) }},
		{"reserved control opcode", [][]byte{frame(fin|0xb, "x")}, func(c *client) { c.wantClose(1002) }},
		{"continuation of nothing", [][]byte{frame(fin|cont, "x")}, func(c *client) { c.wantClose(1002) }},
		{"text inside fragments", [][]byte{frame(text, "x"), frame(fin|text, "y")}, func(c *client) {
			c.wantClose(1002)
		}},
		{"not masked", [][]byte{{0x81, 1, 'x'}}, func(c *client) { c.wantClose(1002) }},
		{"not UTF-8", [][]byte{frame(fin|text, "\xff\xfe")}, func(c *client) { c.wantClose(1007) }},
		{"too long", [][]byte{frame(fin|text, long+long)}, func(c *client) { c.wantClose(1009) }},
		{"too long in fragments", [][]byte{frame(text, long), frame(cont, long), frame(fin|cont, long)}, func(c *client) {
			c.wantClose(1009)
		}},
		{"a length below zero", [][]byte{{0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 'x'}}, func(c *client) {
			c.wantClose(1002)
		}},
		{"close 1000", [][]byte{frame(closing, "\x03\xe8bye")}, func(c *client) { c.wantClose(1000) }},
		{"close 4999", [][]byte{frame(closing, "\x13\x87")}, func(c *client) { c.wantClose(4999) }},
		{"close without a code", [][]byte{frame(closing, "")}, func(c *client) { c.want(0x88, "") }},
		{"close with half a code", [][]byte{frame(closing, "\x03")}, func(c *client) { c.wantClose(1002) }},
		{"close with a forbidden code", [][]byte{frame(closing, "\x03\xee")}, func(c *client) { c.wantClose(1002) }},
		{"close with an undefined code", [][]byte{frame(closing, "\x00\x01")}, func(c *client) { c.wantClose(1002) }},
	} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, " tls=", secure), func(t *testing.T) {
				t.Parallel()
				s := newServer(t, secure)
				client, _ := s.dial(t)
				client.t = t
				for _, b := range c.send {
					client.send(b...)
				}
				c.want(client)
				_ = client.Close()
				select {
				case <-s.ended:
				case <-time.After(testkit.Patience):
					t.Error("the server does not end the connection")
				}
			})
		}
	}
}

// A client that stops reading is closed with 1008. All frames before the close frame are whole and in order.
func TestSlowConsumer(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("tls=", secure), func(t *testing.T) {
			s := newServer(t, secure)
			c, conn := s.dial(t)
			const limit = 256 << 10
			sent := 0
			for {
				var frames []byte
				for i := range 20 {
					frames = relay.AppendFrame(frames, fmt.Appendf(nil, "%d %s", sent+i, strings.Repeat("z", 500)))
				}
				if _, slow := conn.Waiting(); slow {
					t.Fatal("slow before the limit is reached")
				}
				if !conn.SendAnswer(frames, limit) {
					break
				}
				if sent += 20; sent > 1_000_000 {
					t.Fatal("the queue is not limited")
				}
			}
			if conn.Send(relay.AppendFrame(nil, []byte("x")), limit) {
				t.Error("a closing connection accepts more")
			}
			if waiting, slow := conn.Waiting(); waiting == 0 || !slow {
				t.Errorf("%d bytes are queued, slow %v; want some, and slow", waiting, slow)
			}
			got := 0
			for {
				first, p, err := c.next()
				if err != nil {
					t.Fatalf("after %d frames: %v", got, err)
				}
				if first == 0x88 {
					if code := binary.BigEndian.Uint16(p); code != relay.ClosePolicy {
						t.Errorf("closed with %d", code)
					}
					break
				}
				if !bytes.HasPrefix(p, fmt.Appendf(nil, "%d ", got)) {
					t.Fatalf("frame %d begins with %.10q", got, p)
				}
				got++
			}
			if got == 0 || got > sent {
				t.Errorf("got %d of %d frames", got, sent)
			}
		})
	}
}

// A client that reads again before the limit is reached loses nothing, and later writes are direct again.
func TestPausingConsumer(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("tls=", secure), func(t *testing.T) {
			s := newServer(t, secure)
			c, conn := s.dial(t)
			n := 0
			for range 3 {
				start := n
				for range 400 { // about 8 MiB, more than the kernel takes
					frames := relay.AppendFrame(nil, fmt.Appendf(nil, "%d ", n))
					frames = relay.AppendFrame(frames, bytes.Repeat([]byte("z"), 20_000))
					if !conn.Send(frames, 1<<30) {
						t.Fatal("refused")
					}
					n++
				}
				for i := start; i < n; i++ {
					c.want(0x81, fmt.Sprintf("%d ", i))
					if _, p, err := c.next(); err != nil || len(p) != 20_000 {
						t.Fatal(len(p), err)
					}
				}
			}
			conn.Close(relay.CloseGoingAway, "bye")
			c.wantClose(relay.CloseGoingAway)
		})
	}
}

func TestCloseWithoutAnAnswer(t *testing.T) {
	s := newServer(t, false)
	c, conn := s.dial(t)
	conn.Close(relay.CloseGoingAway, "bye")
	if f, _, err := c.next(); f != 0x88 || err != nil {
		t.Fatal(f, err)
	}
	began := time.Now()
	if _, err := c.r.ReadByte(); err == nil || time.Since(began) > 8*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	<-s.ended
}

// A client that pings without reading the answers is disconnected.
func TestPingFlood(t *testing.T) {
	s := newServer(t, false)
	c, _ := s.dial(t)
	flood := bytes.Repeat(frame(0x89, strings.Repeat("p", 125)), 1000)
	_ = c.SetWriteDeadline(time.Now().Add(testkit.Patience))
	for range 2000 { // 250 MB
		if _, err := c.Write(flood); err != nil {
			break
		}
	}
	go func() { _, _ = io.Copy(io.Discard, c.r) }()
	select {
	case <-s.ended:
	case <-time.After(60 * time.Second):
		t.Error("the connection goes on")
	}
}
