package backplane_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

func soon(s *backplane.Settings) { s.Ping, s.Silence = 300*time.Millisecond, time.Second }

// A peer disappears silently while events are sent to it, which its kernel's buffer still accepts. The link times
// out, and another node of the same layer becomes the source.
func TestSilentPeerIsReplacedAsSource(t *testing.T) {
	leakCheck(t)
	layer := memory.NewLayer()
	x, y, z := newNode(t, layer), newNode(t, layer), newNode(t, memory.NewLayer())
	links := map[string]*testkit.Proxy{}
	for _, n := range []*node{x, y} {
		p := testkit.StartProxy(t, n.server.Listener.Addr().String())
		links["http://"+p.Addr] = p
		n.start(soon)
	}
	var urls []string
	for url := range links {
		urls = append(urls, url)
	}
	z.start(soon, peersOf(urls...))
	z.awaitSources(1)
	testkit.Eventually(t, "two links", func() error {
		connected := 0
		for _, p := range z.plane.Peers() {
			if p.State == backplane.StateConnected {
				connected++
			}
		}
		if connected != 2 {
			return fmt.Errorf("%d links", connected)
		}
		return nil
	})
	c := z.client("g-1")
	_, _ = x.client("h-1"), y.client("h-1") // which z sends them all the while
	for _, p := range z.plane.Peers() {
		if p.Source {
			links[p.URL].Stall()
		}
	}
	testkit.EventuallyWithin(t, 8*time.Second, "events over the other link", func() error {
		z.emit("h-1", "on and on")
		x.emit("g-1", "heard again")
		if c.count() == 0 {
			return errors.New("nothing comes from the layer, though there is another link to it")
		}
		return nil
	})
}

// web is a Python web node that wants a-1, once, and counts connections, frames of the group, and its last event.
type web struct {
	*httptest.Server
	connections, frames, last atomic.Int64
}

func newWeb(t *testing.T) *web {
	w := &web{}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, "relay") {
			http.NotFound(rw, r)
			return
		}
		// A relay's challenge.
		if _, _, err := (backplane.Secrets{secret}).Verify(r.Header.Get("secret"), time.Now()); err != nil {
			rw.WriteHeader(http.StatusForbidden)
			return
		}
		c, err := websocket.Accept(rw, r, nil)
		if err != nil {
			return
		}
		if w.connections.Add(1) == 1 {
			_ = c.Write(r.Context(), websocket.MessageText, []byte(`{"type":"consumer.subscribe","groups":["a-1"],"origin_channel":"x"}`))
		}
		for {
			_, b, err := c.Read(context.Background())
			if err != nil {
				return
			}
			if strings.Contains(string(b), `"a-1"`) {
				w.frames.Add(1)
			}
			if strings.Contains(string(b), "the last") {
				w.last.Add(1)
			}
		}
	}))
	t.Cleanup(w.Close)
	return w
}

// asked waits until the web node's wish is known.
func (w *web) asked(t *testing.T, n *node) {
	t.Helper()
	testkit.Eventually(t, "interest in the group", func() error {
		for _, p := range n.plane.Peers() {
			if p.State == backplane.StateConnected && p.Groups == 2 { // and metrics
				return nil
			}
		}
		return fmt.Errorf("%+v", n.plane.Peers())
	})
}

// Close waits for an unresponsive peer, but not for long. Meanwhile no peer is dialed, and the subscriptions of the
// other peers are removed from the layer.
func TestCloseWithAPeerThatAnswersNothing(t *testing.T) {
	w := newWeb(t)
	n := newNode(t, memory.NewLayer())
	n.start(peersOf(w.URL))
	if conn, _ := dialAs(t, n, "/websocket/broadcast/", backplane.Header(secret, time.Now())); conn == nil {
		t.Fatal("refused")
	}
	w.asked(t, n)
	began := time.Now()
	if err := n.plane.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("Close took %v", took)
	}
	if c := w.connections.Load(); c != 1 {
		t.Errorf("%d connections to the web node", c)
	}
	for _, group := range []string{"a-1", "metrics"} {
		if r, err := n.layer.Broker().Publish(t.Context(), group, []byte("{}")); err != nil || r.Members != 0 {
			t.Errorf("members of %s: %+v, %v", group, r, err)
		}
	}
}

// found is a discovery that finds what it is told to.
type found chan []backplane.Target

func (f found) Key() string { return "found" }
func (f found) Run(ctx context.Context, found func([]backplane.Target)) {
	for {
		select {
		case t := <-f:
			found(t)
		case <-ctx.Done():
			return
		}
	}
}

// A Python web node, which says once what it wants, is found with another dialect, or under another form of its URL.
func TestWishesOutliveTheirDialer(t *testing.T) {
	leakCheck(t)
	w, d := newWeb(t), make(found)
	n := newNode(t, memory.NewLayer())
	n.start(func(s *backplane.Settings) { s.Discoveries = []backplane.Discovery{d} })
	d <- []backplane.Target{{URL: w.URL, Dialect: backplane.Auto}}
	w.asked(t, n)
	for i := range 10 {
		dialect := []backplane.Dialect{backplane.Relay, backplane.Auto}[i%2]
		before := w.connections.Load()
		d <- []backplane.Target{{URL: strings.ToUpper(w.URL[:4]) + w.URL[4:] + "/", Dialect: dialect}, {URL: w.URL, Dialect: dialect}}
		testkit.Eventually(t, "another connection", func() error {
			if w.connections.Load() == before {
				return errors.New("not dialled again")
			}
			return nil
		})
		w.asked(t, n)
	}
	testkit.Eventually(t, "the membership of the last link", func() error { // its wish is known before
		n.emit("a-1", "{}")
		if w.frames.Load() == 0 {
			return errors.New("nothing comes")
		}
		return nil
	})
	n.emit("a-1", `"the last"`)
	testkit.Eventually(t, "the last event", func() error {
		if w.last.Load() == 0 {
			return errors.New("nothing comes")
		}
		return nil
	})
	if c, f := w.connections.Load(), w.last.Load(); c != 11 || f != 1 {
		t.Errorf("%d connections, want 11; the event came %d times", c, f)
	}
}
