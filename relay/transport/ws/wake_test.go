//go:build linux && !386

package ws

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay/relaytest"
)

// counter counts what it is given.
type counter struct{ messages, ended chan struct{} }

func (c counter) Message(bool, []byte) { c.messages <- struct{}{} }
func (c counter) Ended()               { close(c.ended) }

// The kernel may tell of the one who had the number of a connection's socket before. Then nothing is there to read, whatever was told, and the
// connection goes to rest again.
func TestWokenForNothing(t *testing.T) {
	conns, h := make(chan *Conn, 1), counter{make(chan struct{}, 1), make(chan struct{})}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := Accept(w, r, func() int { return 100 }, nil)
		if err != nil {
			t.Error(err)
			return
		}
		c.Attend(h)
		conns <- c
	}))
	defer s.Close()
	client, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	c := <-conns
	for i := range 1000 {
		c.wake(i%2 == 0)
		c.wake(i%3 == 0)
	}
	relaytest.Eventually(t, "rest", func() bool { return c.activity.Load() == 0 })
	if _, err := client.Write([]byte("\x81\x80\x00\x00\x00\x00")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-h.messages:
	case <-time.After(relaytest.Patience):
		t.Fatal("a message is overlooked")
	}
	_ = client.Close()
	select {
	case <-h.ended:
	case <-time.After(relaytest.Patience):
		t.Fatal("the end is overlooked")
	}
	if c.wake(true); c.activity.Load()&active != 0 && c.activity.Load()&over == 0 {
		t.Error("woken after its end")
	}
}
