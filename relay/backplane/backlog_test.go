package backplane_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// pythonPeer is a Python node of either generation. It records the events that arrive over all its connections.
type pythonPeer struct {
	t       *testing.T
	mu      sync.Mutex
	texts   []string
	conn    *websocket.Conn
	frozen  chan struct{} // closed while the node reads; replaced by one that is not, while it does not
	probes  func(group string)
	turn    sync.Mutex // a connection is read to its end before the next one
	readers sync.WaitGroup
}

func newPythonPeer(t *testing.T) *pythonPeer {
	p := &pythonPeer{t: t, frozen: make(chan struct{})}
	close(p.frozen)
	return p
}

// read records events until the connection ends.
func (p *pythonPeer) read(c *websocket.Conn) {
	p.turn.Lock()
	defer p.turn.Unlock()
	p.mu.Lock()
	p.conn = c
	p.mu.Unlock()
	c.SetReadLimit(-1)
	for {
		_, b, err := c.Read(context.Background())
		if err != nil {
			return
		}
		p.mu.Lock()
		frozen, probes := p.frozen, p.probes
		switch text := string(b); {
		case strings.Contains(text, "event "):
			p.texts = append(p.texts, eventOf(text))
		case probes != nil && strings.Contains(text, "probe."):
			go probes(probeOf(text))
		}
		p.mu.Unlock()
		<-frozen
	}
}

// eventOf returns the name of the event in a frame: "event 17".
func eventOf(frame string) string {
	_, rest, _ := strings.Cut(frame, "event ")
	n := 0
	for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
		n++
	}
	return "event " + rest[:n]
}

// probeOf returns the group of the probe in a frame.
func probeOf(frame string) string {
	at := strings.Index(frame, "probe.")
	from := strings.LastIndexByte(frame[:at], '"') + 1
	to := at + strings.IndexByte(frame[at:], '"')
	return frame[from:to]
}

// freeze makes the node read no more. The returned function ends that.
func (p *pythonPeer) freeze() (resume func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = make(chan struct{})
	return sync.OnceFunc(func() { close(p.frozen) })
}

// kill ends the connection without a close frame.
func (p *pythonPeer) kill() {
	p.mu.Lock()
	c := p.conn
	p.mu.Unlock()
	if c != nil {
		_ = c.CloseNow()
	}
}

func (p *pythonPeer) events() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.texts)
}

// exactly waits until the node has the events from 0 to count, each once and in order.
func (p *pythonPeer) exactly(count int) {
	p.t.Helper()
	testkit.Eventually(p.t, "all events at the Python node", func() error {
		if got := len(p.events()); got < count {
			return fmt.Errorf("%d of %d events", got, count)
		}
		return nil
	})
	for n, got := range p.events() {
		if want := fmt.Sprintf("event %d", n); got != want {
			p.t.Fatalf("event number %d is %q; %d events in all", n, got, len(p.events()))
		}
	}
}

// webPeer is a Python web node, which this node dials. It wants g-1, and says so over its first connection only.
type webPeer struct {
	*pythonPeer
	url      string
	away     atomic.Bool // it answers as a proxy does without the node
	accepted atomic.Int64
}

func newWebPeer(t *testing.T) *webPeer {
	w, _ := startWebPeer(t, (*httptest.Server).Start)
	return w
}

// startWebPeer makes a web node whose server is started by a function.
func startWebPeer(t *testing.T, start func(*httptest.Server)) (*webPeer, *httptest.Server) {
	w := &webPeer{pythonPeer: newPythonPeer(t)}
	server := httptest.NewUnstartedServer(http.HandlerFunc(w.serve))
	start(server)
	t.Cleanup(func() { w.kill(); server.Close() })
	w.url = server.URL
	return w, server
}

// serve answers a handshake as a Python web node does.
func (p *webPeer) serve(rw http.ResponseWriter, r *http.Request) {
	_, _, err := (backplane.Secrets{secret}).Verify(r.Header.Get("secret"), time.Now())
	switch {
	case p.away.Load():
		rw.WriteHeader(http.StatusBadGateway)
		return
	case !strings.Contains(r.URL.Path, "relay"):
		http.NotFound(rw, r)
		return
	case err != nil: // a relay's challenge
		rw.WriteHeader(http.StatusForbidden)
		return
	}
	// An answer to a connection that has ended would end the reading of what has arrived.
	answers := func(context.Context, []byte) bool { return !p.away.Load() }
	c, err := websocket.Accept(rw, r, &websocket.AcceptOptions{OnPingReceived: answers})
	if err != nil {
		return
	}
	if p.accepted.Add(1) == 1 {
		wish := `{"type":"consumer.subscribe","groups":["g-1"],"origin_channel":"x"}`
		_ = c.Write(r.Context(), websocket.MessageText, []byte(wish))
	}
	p.read(c)
}

// emitEvents emits the events from one number to another. The first event of a test waits until the relay has joined
// the group: a subscription of a peer is listed before.
func (n *node) emitEvents(from, to, size int) {
	n.t.Helper()
	b := n.layer.Broker()
	for i := from; i < to; i++ {
		text := fmt.Sprintf(`{"n": "event %d", "x": %q}`, i, strings.Repeat("x", size))
		testkit.Eventually(n.t, "a member of the group", func() error { // nothing is sent without one
			receipt, err := b.Publish(context.Background(), "g-1", []byte(text))
			if err == nil && receipt.Members == 0 && i == 0 {
				err = errors.New("the relay has not joined")
			}
			return err
		})
	}
}

// awaitGroups waits until a connected peer wants so many groups.
func (n *node) awaitGroups(groups int) {
	n.t.Helper()
	testkit.Eventually(n.t, "subscriptions of the peer", func() error {
		for _, p := range n.plane.Peers() {
			if p.State == backplane.StateConnected && p.Groups == groups {
				return nil
			}
		}
		return fmt.Errorf("%+v", n.plane.Peers())
	})
}

// awaitNoPeer waits until this node has noticed the end of all links.
func (n *node) awaitNoPeer() {
	n.t.Helper()
	testkit.Eventually(n.t, "the end of the link", func() error {
		for _, p := range n.plane.Peers() {
			if p.State == backplane.StateConnected {
				return fmt.Errorf("%+v", p)
			}
		}
		return nil
	})
}

// A Python web node is away for a moment. The events of that time come when it is back, in order.
func TestWebNodeGetsTheEventsOfABreak(t *testing.T) {
	leakCheck(t)
	w := newWebPeer(t)
	n := newNode(t, memory.NewLayer())
	n.start(peersOf(w.url))
	n.awaitGroups(2)
	n.emitEvents(0, 10, 100)
	w.exactly(10)
	w.away.Store(true)
	w.kill()
	n.awaitNoPeer()
	n.emitEvents(10, 200, 100)
	w.away.Store(false)
	w.exactly(200)
	n.emitEvents(200, 210, 100)
	w.exactly(210)
	if s := n.plane.Stats(); s.Dropped["link_lost"]+s.Dropped["queue_full"]+s.Dropped["expired"] != 0 {
		t.Errorf("dropped: %v", s.Dropped)
	}
}

// A Python web node stops reading until the link times out. Its kernel has some events, this node's kernel has others,
// and more are queued: each arrives once.
func TestWebNodeThatStallsGetsEachEventOnce(t *testing.T) {
	leakCheck(t)
	w := newWebPeer(t)
	n := newNode(t, memory.NewLayer())
	const count = 12_000
	stallWebNode(t, w, n, count)
	w.exactly(count)
	if out := n.plane.Stats().EventsOut; out != count {
		t.Errorf("%d events count as sent, want each once", out)
	}
}

// stallWebNode makes a web node read no more while events for it are emitted, until the link ends, and waits until each
// of them has arrived or counts as lost.
func stallWebNode(t *testing.T, w *webPeer, n *node, count int, options ...option) (lost uint64) {
	t.Helper()
	n.start(append(options, peersOf(w.url), func(s *backplane.Settings) {
		s.Ping, s.Silence, s.QueueBytes = 500*time.Millisecond, 2*time.Second, 64<<20
	})...)
	n.awaitGroups(2)
	n.emitEvents(0, 10, 100)
	w.exactly(10)
	w.away.Store(true)
	resume := w.freeze()
	n.emitEvents(10, count, 1000)
	n.awaitNoPeer()
	before := len(w.events())
	resume()
	w.turn.Lock() // the rest of the first connection is read
	first := len(w.events())
	w.turn.Unlock()
	if first == before || first == count {
		t.Errorf("%d events were read from the first connection, %d of them in time", first, before)
	}
	w.away.Store(false)
	testkit.EventuallyWithin(t, time.Minute, "the last event", func() error {
		if got := w.events(); got[len(got)-1] != fmt.Sprint("event ", count-1) {
			return fmt.Errorf("%d events arrived, %d of them before", len(got), first)
		}
		return nil
	})
	lost = n.plane.Stats().Dropped["link_lost"]
	if got := len(w.events()); got+int(lost) < count {
		t.Errorf("%d events arrived, and %d count as lost, of %d", got, lost, count)
	}
	return lost
}

// broadcastPeer is a Python node of AWX 9 to 21 that dials a relay.
type broadcastPeer struct{ *pythonPeer }

func (p broadcastPeer) dial(n *node) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	header := http.Header{"secret": {backplane.Header(secret, time.Now())}}
	c, _, err := websocket.Dial(ctx, n.server.URL+"/websocket/broadcast/", &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	p.conn = c
	p.mu.Unlock()
	p.readers.Go(func() { p.read(c) })
	p.t.Cleanup(func() { _ = c.CloseNow(); p.readers.Wait() })
}

// emitCopies emits events as an emitter of AWX 9 to 21 does for other nodes.
func (n *node) emitCopies(from, to int) {
	n.t.Helper()
	b := n.layer.Broker()
	for i := from; i < to; i++ {
		text := fmt.Sprintf(`{"group": "g-1", "message": "event %d"}`, i)
		testkit.Eventually(n.t, "a member of the group", func() error { // nothing is sent without one
			receipt, err := b.Publish(context.Background(), "broadcast-group_send", []byte(text))
			if err == nil && receipt.Members == 0 {
				err = errors.New("the relay has not joined")
			}
			return err
		})
	}
}

func TestBroadcastNodeGetsTheEventsOfABreak(t *testing.T) {
	leakCheck(t)
	n := newNode(t, memory.NewLayer())
	n.start()
	p := broadcastPeer{newPythonPeer(t)}
	p.dial(n)
	n.awaitPeers(backplane.Broadcast, false, 1)
	n.emitCopies(0, 10)
	p.exactly(10)
	p.kill()
	n.awaitNoPeer()
	n.emitCopies(10, 200)
	p.dial(n)
	p.exactly(200)
	n.emitCopies(200, 210)
	p.exactly(210)
}

// Two Python nodes dial from one address. Neither gets what waits for the other: an event would come twice.
func TestNodesBehindOneAddressGetNothingOfEachOther(t *testing.T) {
	leakCheck(t)
	n := newNode(t, memory.NewLayer())
	n.start()
	one, two := broadcastPeer{newPythonPeer(t)}, broadcastPeer{newPythonPeer(t)}
	one.dial(n)
	two.dial(n)
	n.awaitPeers(backplane.Broadcast, false, 2)
	n.emitCopies(0, 10)
	one.exactly(10)
	two.exactly(10)
	one.kill()
	n.awaitPeers(backplane.Broadcast, false, 1)
	n.emitCopies(10, 20)
	two.exactly(20)
	two.kill()
	n.awaitNoPeer()
	n.emitCopies(20, 30)
	two.dial(n)
	n.awaitPeers(backplane.Broadcast, false, 1)
	n.emitCopies(30, 31)
	testkit.Eventually(t, "the event after the break", func() error {
		if got := two.events(); got[len(got)-1] != "event 30" {
			return fmt.Errorf("the last event is %q", got[len(got)-1])
		}
		return nil
	})
	if got := two.events(); len(got) != 21 {
		t.Errorf("%d events: %q", len(got), got)
	}
}

// A web node on this node's own layer is away for a moment: it gets the events of that time from the layer alone.
func TestWebNodeOnTheSameLayerGetsNothingTwice(t *testing.T) {
	leakCheck(t)
	w := newWebPeer(t)
	n := newNode(t, memory.NewLayer())
	w.probes = func(group string) { n.emit(group, "{}") }
	n.start(peersOf(w.url))
	n.awaitSameLayer(1)
	n.awaitGroups(2)
	w.away.Store(true)
	w.kill()
	n.awaitNoPeer()
	n.emitEvents(0, 10, 100)
	w.away.Store(false)
	n.awaitSameLayer(1)
	n.emitEvents(10, 20, 100)
	w.away.Store(true)
	w.kill()
	n.awaitNoPeer()
	if got := w.events(); len(got) != 0 {
		t.Errorf("%d events: %q", len(got), got)
	}
	if s := n.plane.Stats(); s.Dropped["link_lost"] != 0 {
		t.Errorf("dropped: %v", s.Dropped)
	}
}
