//go:build !race

package caddymodule

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
)

// A client at rest, with messages of both kinds behind it, occupies no goroutine: with its stack, one is half of what a
// client would cost.
func TestNoStackOfAnIdleConnection(t *testing.T) {
	const clients = 500
	s := newSite(t)
	s.mustLoad("channel_layer memory\nauth none\nlimits {\nconnections_per_user 0\n}", "edgerelay")
	s.idle() // what is needed once
	bytes, goroutines := stacks(), runtime.NumGoroutine()
	for range clients {
		s.idle()
	}
	each := float64(stacks()-bytes) / clients
	more := runtime.NumGoroutine() - goroutines
	t.Logf("%.0f bytes of stack each, %d more goroutines", each, more)
	if each > 512 || more > 50 {
		t.Errorf("%.0f bytes of stack for each idle connection and %d goroutines for %d, want none", each, more, clients)
	}
}

// idle is a client that has subscribed, pinged, and sent what is no message.
func (s *site) idle() {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	frame := func(head byte, text string) string {
		n := []byte{head, 0x80 | byte(len(text))}
		if len(text) > 125 {
			n = []byte{head, 0x80 | 126, 0, byte(len(text))}
		}
		return string(n) + "\x00\x00\x00\x00" + text
	}
	request := fmt.Sprintf(shake, "/websocket/", s.addr) + "Cookie: csrftoken=t\r\n\r\n"
	long := `{"xrftoken": "t", "groups": {"jobs": ["status_changed", "summary"], "schedules": ["changed"], "workflow_events": [1, 2, 3], "project_updates": [4]}}`
	answers := bufio.NewReader(conn)
	for i, say := range []string{request, frame(0x81, "{"), frame(0x89, "ping"), frame(0x81, long)} {
		if _, err := io.WriteString(conn, say); err != nil {
			s.t.Fatal(err)
		}
		if i > 0 {
			if err := skipFrame(answers); err != nil {
				s.t.Fatal(err)
			}
			continue
		}
		for line := ""; line != "\r\n"; {
			if line, err = answers.ReadString('\n'); err != nil {
				s.t.Fatal(err)
			}
		}
		if err := skipFrame(answers); err != nil { // the greeting
			s.t.Fatal(err)
		}
	}
}

// skipFrame reads one frame of the relay's.
func skipFrame(r *bufio.Reader) error {
	head, err := r.Peek(2)
	if err != nil {
		return err
	}
	n := 2 + int(head[1])
	if head[1] == 126 {
		if head, err = r.Peek(4); err != nil {
			return err
		}
		n = 4 + int(head[2])<<8 + int(head[3])
	}
	_, err = r.Discard(n)
	return err
}

// stacks is how many bytes the stacks of this process take after they have shrunk.
func stacks() int64 {
	for range 3 {
		runtime.GC()
	}
	sample := []metrics.Sample{{Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}
