package backplane_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// bubbleNode is a node in a bubble of synctest, on a network in memory.
type bubbleNode struct {
	*node
	net    *fakeNet
	name   string
	server *http.Server
	served chan struct{}
}

// newBubbleNode makes a node whose server answers 404 until the backplane starts.
func newBubbleNode(t *testing.T, net *fakeNet, name string) *bubbleNode {
	n := &bubbleNode{node: &node{t: t, layer: memory.NewLayer()}, net: net, name: name, served: make(chan struct{})}
	n.hub = hub.New(slog.New(slog.DiscardHandler))
	if err := n.hub.SetBroker(t.Context(), n.layer.Broker()); err != nil {
		t.Fatal(err)
	}
	n.server = serveIn(net, name, n.served, func(w http.ResponseWriter, r *http.Request) {
		plane := n.serving.Load()
		if e, ok := backplane.Endpoint(r.URL.Path); ok && plane != nil {
			if status := plane.Serve(w, r, e); status != 0 {
				http.Error(w, http.StatusText(status), status)
			}
			return
		}
		http.NotFound(w, r)
	})
	return n
}

// serveIn serves an address of the network.
func serveIn(net *fakeNet, name string, served chan struct{}, handle http.HandlerFunc) *http.Server {
	server, listener := &http.Server{Handler: handle}, net.listen(name)
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	return server
}

func (n *bubbleNode) start(options ...option) {
	n.t.Helper()
	s := backplane.Settings{Secrets: backplane.Secrets{secret}, Name: n.name, Retry: time.Second, JoinWait: time.Second}
	for _, o := range options {
		o(&s)
	}
	plane, err := backplane.New(n.hub, s, slog.New(slog.DiscardHandler))
	if err != nil {
		n.t.Fatal(err)
	}
	plane.BeUntimed() // a compressor is shared by all tests, which a bubble does not allow
	plane.DialLikeKernel(n.net.dial)
	n.plane = plane
	n.serving.Store(plane)
	plane.Start()
}

func (n *bubbleNode) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if n.plane != nil {
		_ = n.plane.Close(ctx)
	}
	_ = n.server.Close()
	<-n.served
	_ = n.hub.Close(ctx)
}

// subscriber returns a client with a subscription.
func (n *bubbleNode) subscriber(group string) *client {
	c := &client{}
	c.s = n.hub.Open(c, relay.Identity{}, netip.Addr{})
	if _, err := c.s.Subscribe(n.t.Context(), relay.Groups(group)); err != nil {
		n.t.Fatal(err)
	}
	return c
}

func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// Nothing passes between two nodes: within seconds, each lists the other as stalled, with the reason, and counts it as
// missing. Once the network is back, it is connected again.
func TestAStalledPeerShowsInTheStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newFakeNet()
		a, b := newBubbleNode(t, net, "a:80"), newBubbleNode(t, net, "b:80")
		defer a.stop()
		defer b.stop()
		a.start(peersOf("http://b:80"))
		b.start(peersOf("http://a:80"))
		settle(10 * time.Second)
		for _, n := range []*bubbleNode{a, b} {
			defer n.subscriber("g-1").s.Close()
		}
		status := func(n *bubbleNode) (p backplane.PeerNode, c backplane.PeerCount) {
			s := n.plane.Status()
			if len(s.Peers) != 1 {
				t.Fatalf("%s lists %+v", n.name, s.Peers)
			}
			return s.Peers[0], backplane.CountNodes(s.Peers)
		}
		for _, down := range []bool{false, true, false} {
			for _, n := range []*bubbleNode{a, b} {
				net.stall(n.name, down)
			}
			for _, n := range []*bubbleNode{a, b} { // something to acknowledge
				n.emitEvents(0, 1, 10)
			}
			settle(5 * time.Second)
			want, missing := backplane.StateConnected, 0
			if down {
				want, missing = backplane.StateStalled, 1
			}
			for _, n := range []*bubbleNode{a, b} {
				p, c := status(n)
				told := strings.Contains(p.Error, "no sign of life")
				if p.State != want || c.Missing != missing || c.Connected != 1-missing || told != down {
					t.Errorf("the network is down: %v; %s lists the other as %s (%q), %+v", down, n.name, p.State, p.Error, c)
				}
				if down && time.Since(p.Since) > 5*time.Second {
					t.Errorf("stalled since %v", time.Since(p.Since))
				}
			}
		}
	})
}

// A node is dialed before it is ready: its server answers 404, and the next attempt is minutes away. Once the node has
// dialed this one, it is listed once, as one of those that are expected.
func TestANodeThatWasNotReadyIsListedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newFakeNet()
		a, b := newBubbleNode(t, net, "a:80"), newBubbleNode(t, net, "b:80")
		defer a.stop()
		defer b.stop()
		a.start(peersOf("http://b:80"), func(s *backplane.Settings) { s.Retry = time.Hour })
		settle(5 * time.Hour)
		if p := a.plane.Nodes()[0]; p.State != backplane.StateWaiting || !strings.Contains(p.Error, "404") {
			t.Fatalf("%+v", p)
		}
		b.start(peersOf("http://a:80"))
		settle(5 * time.Second)
		nodes := a.plane.Nodes()
		want := backplane.PeerCount{Connected: 1, Known: 1, Expected: 1}
		if got := backplane.CountNodes(nodes); got != want || nodes[0].URL != "http://b" {
			t.Errorf("%+v, want %+v: %+v", got, want, nodes)
		}
	})
}

// Events are in flight when a link breaks. They are sent again over the next one, and each counts once.
func TestEventsThatAreSentAgainCountOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newFakeNet()
		a, b := newBubbleNode(t, net, "a:80"), newBubbleNode(t, net, "b:80")
		defer a.stop()
		defer b.stop()
		a.start(peersOf("http://b:80"))
		b.start()
		settle(5 * time.Second)
		c := b.subscriber("g-1")
		defer c.s.Close()
		a.emitEvents(0, 100, 10)
		settle(time.Second)
		net.stall("b:80", true)
		a.emitEvents(100, 150, 10)
		settle(200 * time.Millisecond)
		if out := a.plane.Stats().EventsOut; out != 150 {
			t.Fatalf("%d events have left before the break", out)
		}
		for _, w := range net.list("b:80") {
			w.cut(reset)
		}
		net.stall("b:80", false)
		settle(10 * time.Second)
		peer := a.plane.Nodes()[0]
		if got, out := c.count(), a.plane.Stats().EventsOut; got != 150 || out != 150 || peer.EventsOut != 0 {
			t.Errorf("%d events arrived, %d count as sent, %d of them over the last link; want 150, 150, 0", got, out, peer.EventsOut)
		}
	})
}

// A Python web node is away. Its events expire one by one, then its subscriptions do, with what is still queued. All of
// them are counted, and nothing comes late.
func TestBacklogOfAPythonNodeExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newFakeNet()
		w := &webPeer{pythonPeer: newPythonPeer(t)}
		served := make(chan struct{})
		server := serveIn(net, "python:80", served, w.serve)
		n := newBubbleNode(t, net, "relay:80")
		defer func() { n.stop(); w.kill(); _ = server.Close(); <-served }()
		n.start(peersOf("http://python:80"), func(s *backplane.Settings) { s.QueueAge = 30 * time.Second })
		settle(10 * time.Second)
		n.emitEvents(0, 10, 10)
		settle(time.Second)
		leave := func() {
			w.away.Store(true)
			w.kill()
			settle(time.Second)
		}
		returns := func(away, arrived, expired, lost int) {
			t.Helper()
			w.away.Store(false)
			settle(10 * time.Second)
			dropped := n.plane.Stats().Dropped
			if got := len(w.events()); got != arrived || dropped["expired"] != uint64(expired) || dropped["link_lost"] != uint64(lost) {
				t.Errorf("after %d s: %d events arrived, dropped: %v; want %d, %d expired, %d lost", away, got, dropped, arrived, expired, lost)
			}
		}
		leave()
		n.emitEvents(10, 20, 10)
		settle(20 * time.Second)
		n.emitEvents(20, 25, 10)
		settle(20 * time.Second)
		returns(41, 15, 10, 0)
		if got := w.events(); got[10] != "event 20" {
			t.Errorf("events after the break: %q", got[10:])
		}
		leave()
		n.emitEvents(25, 30, 10)
		settle(50 * time.Second)
		n.emitEvents(30, 33, 10)
		settle(20 * time.Second)
		returns(71, 15, 15, 3)
		n.emitEvents(33, 34, 10)
		settle(time.Second)
		if got := len(w.events()); got != 15 {
			t.Errorf("%d events although the node has not subscribed again", got)
		}
	})
}
