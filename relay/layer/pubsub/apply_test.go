package pubsub_test

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/layer/pubsub"
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

// New credentials arrive while a connection with the former ones is being made.
func TestApplyWhileConnecting(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	asked, answer, renewed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		for first := true; ; first = false {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			go func() {
				r := bufio.NewReader(c)
				for line := ""; !strings.Contains(line, "word"); {
					if line, err = r.ReadString('\n'); err != nil {
						return
					}
					if strings.Contains(line, "newword") {
						close(renewed)
					}
				}
				if first {
					close(asked)
					<-answer
				}
				_, _ = io.WriteString(c, "+OK\r\n")
				_, _ = io.Copy(io.Discard, r)
			}()
		}
	}()
	s := pubsub.DefaultSettings()
	s.URLs = []string{"redis://:oldword@" + ln.Addr().String()}
	b := newBroker(t, s)
	if err := b.Start(&relaytest.Sink{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(t.Context()) })
	<-asked
	s.URLs = []string{"redis://:newword@" + ln.Addr().String()}
	if err := b.Apply(s); err != nil {
		t.Fatal(err)
	}
	close(answer)
	testkit.Eventually(t, "a connection with the new password", func() bool {
		select {
		case <-renewed:
			return true
		default:
			return false
		}
	})
}
