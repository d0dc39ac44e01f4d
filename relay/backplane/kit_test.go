package backplane_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
	"github.com/edgerelay/edgerelay/relay/layer/redis"
)

const secret = "a secret with ümlauts and 🔑"

// node is a relay in this process: hub, layer, backplane and an HTTP server.
type node struct {
	t       testing.TB
	hub     *hub.Hub
	layer   *memory.Layer
	plane   *backplane.Backplane
	serving atomic.Pointer[backplane.Backplane] // the same, for requests that come before it runs
	server  *httptest.Server
	plain   bool                       // behaves like a relay without features
	untimed bool                       // behaves like a relay before the feature timed
	prepare func(*backplane.Backplane) // before the start; nil: nothing
}

type option func(*backplane.Settings)

func peersOf(urls ...string) option {
	return func(s *backplane.Settings) {
		var list backplane.Static
		for _, u := range urls {
			list = append(list, backplane.Target{URL: u, Dialect: backplane.Auto})
		}
		s.Discoveries = append(s.Discoveries, list)
	}
}

// newNode makes a node whose backplane is not running yet; its URL is known.
func newNode(t testing.TB, layer *memory.Layer) *node {
	n := newNodeOn(t, layer.Broker())
	n.layer = layer
	return n
}

// newRedisNode makes a node with a channel layer in Redis.
func newRedisNode(t testing.TB, url string) *node {
	t.Helper()
	s := redis.DefaultSettings()
	s.URLs, s.Capacity = []string{url}, 10000
	b, err := redis.New(s, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return newNodeOn(t, b)
}

func newNodeOn(t testing.TB, b relay.Broker) *node { return newNodeAt(t, b, "127.0.0.1:0") }

// newNodeAt makes a node that listens on an address.
func newNodeAt(t testing.TB, b relay.Broker, address string) *node {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return newNodeBehind(t, b, listener)
}

// newNodeBehind makes a node with a listener.
func newNodeBehind(t testing.TB, b relay.Broker, listener net.Listener) *node {
	n := &node{t: t}
	n.hub = hub.New(slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err := n.hub.SetBroker(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	n.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		plane := n.serving.Load()
		if e, ok := backplane.Endpoint(r.URL.Path); ok && plane != nil {
			if status := plane.Serve(w, r, e); status != 0 {
				http.Error(w, http.StatusText(status), status)
			}
			return
		}
		http.NotFound(w, r)
	}))
	_ = n.server.Listener.Close()
	n.server.Listener = listener
	n.server.Start()
	t.Cleanup(func() {
		if n.plane == nil { // start would have closed it
			n.close()
		}
	})
	return n
}

// start runs the backplane with settings that suit a test.
func (n *node) start(options ...option) *testkit.Buffer {
	n.t.Helper()
	s := backplane.Settings{
		Secrets: backplane.Secrets{secret}, Name: n.server.Listener.Addr().String(),
		Retry: 500 * time.Millisecond, ProbeWait: 300 * time.Millisecond, JoinWait: 5 * time.Second,
	}
	for _, o := range options {
		o(&s)
	}
	log := &testkit.Buffer{}
	plane, err := backplane.New(n.hub, s, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		n.t.Fatal(err)
	}
	if n.plain {
		plane.BePlain()
	}
	if n.untimed {
		plane.BeUntimed()
	}
	if n.prepare != nil {
		n.prepare(plane)
	}
	n.plane = plane
	n.serving.Store(plane)
	plane.Start()
	n.t.Cleanup(func() {
		n.close()
		if n.t.Failed() {
			n.t.Logf("log of %s:\n%s", n.server.URL, log.String())
		}
	})
	return log
}

func (n *node) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if n.plane != nil {
		if err := n.plane.Close(ctx); err != nil {
			n.t.Errorf("closing the backplane: %v", err)
		}
	}
	if err := n.hub.Close(ctx); err != nil {
		n.t.Errorf("closing the hub: %v", err)
	}
	n.server.Close()
}

// emit publishes as an emitter of the layer that is none of the nodes: with needs_relay.
func (n *node) emit(group, text string) {
	n.t.Helper()
	b := n.layer.Broker()
	if _, err := b.Publish(context.Background(), group, []byte(text)); err != nil {
		n.t.Fatal(err)
	}
}

// client is a session whose socket keeps what it gets.
type client struct {
	mu    sync.Mutex
	texts []string
	s     *hub.Session
}

func (n *node) client(groups ...string) *client {
	n.t.Helper()
	c := &client{}
	c.s = n.hub.Open(c, relay.Identity{}, netip.Addr{})
	n.t.Cleanup(c.s.Close)
	c.subscribe(n, groups...)
	return c
}

func (c *client) subscribe(n *node, groups ...string) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := c.s.Subscribe(ctx, relay.Groups(groups...)); err != nil {
		n.t.Fatal(err)
	}
}

func (c *client) Send(frames []byte, _ int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(frames) > 0 {
		size, head := int(frames[1]), 2
		switch size {
		case 126:
			size, head = int(binary.BigEndian.Uint16(frames[2:])), 4
		case 127:
			size, head = int(binary.BigEndian.Uint64(frames[2:])), 10
		}
		c.texts = append(c.texts, string(frames[head:head+size]))
		frames = frames[head+size:]
	}
	return true
}

func (c *client) SendCopy(frames []byte, limit int) bool { return c.Send(frames, limit) }

func (c *client) Ping() bool          { return true }
func (c *client) LastRead() time.Time { return time.Now() }

func (c *client) Waiting() (int, bool) { return 0, false }
func (c *client) Close(int, string)    { c.s.Close() }
func (c *client) Kill()                { c.s.Close() }

func (c *client) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.texts)
}

// forget lets go of what came so far.
func (c *client) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.texts = nil
}

// exactly waits until the client has as many texts as wanted, and checks that each came once.
func (c *client) exactly(t testing.TB, want map[string]bool) {
	t.Helper()
	testkit.Eventually(t, "all events at the client", func() error {
		if got := c.count(); got < len(want) {
			return fmt.Errorf("a client has %d of %d events, not %q", got, len(want), c.missing(want))
		}
		return nil
	})
	c.once(t, want)
}

// missing is one of the texts that have not come.
func (c *client) missing(want map[string]bool) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for text := range want {
		if !slices.Contains(c.texts, text) {
			return fmt.Sprintf("%.80s", text)
		}
	}
	return ""
}

// once checks that each wanted text came once so far, and nothing else.
func (c *client) once(t testing.TB, want map[string]bool) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := map[string]int{}
	for _, text := range c.texts {
		seen[text]++
		if !want[text] {
			t.Errorf("unexpected event %q", text)
		}
	}
	for text := range want {
		if seen[text] != 1 {
			t.Errorf("event %q came %d times", text, seen[text])
		}
	}
}

// mesh starts nodes that know each other's URLs (and their own), and waits until each listens to
// every foreign layer.
func mesh(t testing.TB, nodes []*node, options ...option) {
	t.Helper()
	var urls []string
	layers := map[*memory.Layer]bool{}
	for _, n := range nodes {
		urls = append(urls, n.server.URL)
		layers[n.layer] = true
	}
	for _, n := range nodes {
		n.start(append([]option{peersOf(urls...)}, options...)...)
	}
	for _, n := range nodes {
		n.awaitSources(len(layers) - 1)
	}
}

func (n *node) sources() int {
	sources := 0
	for _, p := range n.plane.Peers() {
		if p.Source && p.State == backplane.StateConnected {
			sources++
		}
	}
	return sources
}

func (n *node) awaitSources(want int) {
	n.t.Helper()
	testkit.EventuallyWithin(n.t, 2*time.Minute, "sources", func() error {
		if got := n.sources(); got != want {
			return fmt.Errorf("%s listens to %d of %d layers", n.server.URL, got, want)
		}
		return nil
	})
}

// leakCheck fails the test when goroutines are left at its end.
func leakCheck(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		deadline := time.Now().Add(10 * time.Second)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for runtime.NumGoroutine() > before {
			if time.Now().After(deadline) {
				buf := make([]byte, 1<<20)
				t.Errorf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
				return
			}
			<-tick.C
		}
	})
}
