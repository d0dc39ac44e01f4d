package ws_test

import (
	"bufio"
	"bytes"
	"compress/flate"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// dialWith connects with more lines of the handshake, and returns the response.
func (s *server) dialWith(t *testing.T, lines string) (*client, *http.Response) {
	t.Helper()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(2 * testkit.Patience))
	if _, err := conn.Write([]byte(strings.TrimSuffix(handshake, "\r\n") + lines + "\r\n")); err != nil {
		t.Fatal(err)
	}
	c := &client{t, conn, bufio.NewReader(conn)}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	return c, resp
}

const offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"

// deflate compresses a message as a client without context takeover does.
func deflate(message string) string {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, 9)
	_, _ = w.Write([]byte(message))
	_ = w.Flush()
	return strings.TrimSuffix(b.String(), "\x00\x00\xff\xff")
}

func TestCompressedMessagesOfClients(t *testing.T) {
	s := newServer(t, false)
	c, resp := s.dialWith(t, offer)
	const answer = "permessage-deflate; client_no_context_takeover"
	if got := resp.Header.Get("Sec-WebSocket-Extensions"); got != answer {
		t.Fatalf("the answer is %q, want %q", got, answer)
	}
	c.send(frame(0xc1, deflate("Hello, Hello, Hello"))...)
	c.want(0x81, "Hello, Hello, Hello")
	c.send(frame(0x81, "plain")...)
	c.want(0x81, "plain")
	c.send(frame(0xc1, "\x00")...)
	c.want(0x81, "")

	fragments := deflate(strings.Repeat("fragments ", 30))
	c.send(frame(0x41, fragments[:5])...)
	c.send(frame(0x89, "ping")...)
	c.want(0x8a, "ping")
	c.send(frame(0x00, fragments[5:9])...)
	c.send(frame(0x00, "")...)
	c.send(frame(0x80, fragments[9:])...)
	c.want(0x81, strings.Repeat("fragments ", 30))

	longest := strings.Repeat("x", 4096)
	c.send(frame(0xc1, deflate(longest))...)
	c.want(0x81, longest)
}

func TestInvalidCompressionClosesTheConnection(t *testing.T) {
	s := newServer(t, false)
	hello := deflate("Hello")
	bomb := deflate(strings.Repeat("x", 5000))
	for _, c := range []struct {
		name, lines string
		frames      [][]byte
		code        int
	}{
		{"without an agreement", "", [][]byte{frame(0xc1, hello)}, 1002},
		{"on a continuation", offer, [][]byte{frame(0x41, hello[:2]), frame(0xc0, hello[2:])}, 1002},
		{"on a continuation of a plain message", offer, [][]byte{frame(0x01, "x"), frame(0xc0, hello)}, 1002},
		{"on a ping", offer, [][]byte{frame(0xc9, "")}, 1002},
		{"on a close", offer, [][]byte{frame(0xc8, "\x03\xe8")}, 1002},
		{"another reserved bit", offer, [][]byte{frame(0xe1, hello)}, 1002},
		{"no DEFLATE", offer, [][]byte{frame(0xc1, "Hello, world")}, 1007},
		{"a message that refers to another", offer, [][]byte{frame(0xc1, "\xf2\x00\x11\x00\x00")}, 1007},
		{"text that is no UTF-8", offer, [][]byte{frame(0xc1, deflate("\xff"))}, 1007},
		{"text that ends inside a character", offer, [][]byte{frame(0xc1, deflate("\xce"))}, 1007},
		{"too long", offer, [][]byte{frame(0xc1, bomb)}, 1009},
		{"too long, in fragments", offer, [][]byte{frame(0x41, bomb[:4]), frame(0x80, bomb[4:])}, 1009},
		{"a payload that is too long", offer, [][]byte{frame(0xc1, strings.Repeat("\x00", 4096+512+65))}, 1009},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, _ := s.dialWith(t, c.lines)
			conn.send(bytes.Join(c.frames, nil)...)
			conn.wantClose(c.code)
		})
	}
}

// An idle connection with compression needs no more memory than one without.
func TestCompressionOfIdleConnectionsIsFree(t *testing.T) {
	s := newServer(t, false)
	const clients = 200
	measure := func(lines string) uint64 {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for range clients {
			c, _ := s.dialWith(t, lines)
			c.r = nil
			<-s.conns
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		return (after.HeapAlloc - before.HeapAlloc) / clients
	}
	measure("")
	plain, compressed := measure(""), measure(offer)
	if compressed > plain+100 {
		t.Errorf("an idle connection takes %d bytes with compression, %d without", compressed, plain)
	}
}
