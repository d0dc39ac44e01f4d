package pubsub

import (
	"log/slog"
	"net"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/internal/resp"
)

// slowToClose is a connection whose end waits for the other side, as an encrypted connection's may.
type slowToClose struct {
	net.Conn
	closing, release chan struct{}
}

func (c slowToClose) Close() error {
	close(c.closing)
	<-c.release
	return c.Conn.Close()
}

// A host that hangs delays the end of its own connection, and no other host's events.
func TestCutHoldsUpNoOtherHost(t *testing.T) {
	b, err := New(DefaultSettings(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.hosts.Close)
	near, far := net.Pipe()
	t.Cleanup(func() { _ = far.Close() })
	c := slowToClose{near, make(chan struct{}), make(chan struct{})}
	s := b.subscribers[0]
	s.conn = resp.New(c, nil)
	go s.cut()
	<-c.closing
	defer close(c.release)
	testkit.Eventually(t, "the lock", func() bool {
		if !b.mu.TryLock() {
			return false
		}
		b.mu.Unlock()
		return true
	})
}
