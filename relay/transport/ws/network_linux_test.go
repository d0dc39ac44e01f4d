package ws_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/mesh/wire"
	"github.com/edgerelay/edgerelay/internal/tcptuning"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/transport/netpoll"
	"github.com/edgerelay/edgerelay/relay/transport/ws"
)

// network is a hub in a network namespace and a client in another one: sockets of the kernel, and a line that a test
// makes slow or cuts.
type network struct {
	t      *testing.T
	line   *wire.Switch
	hub    *hub.Hub
	addr   string
	client *wire.Namespace
	conns  chan *ws.Conn
}

const notice = `{"resync": true}`

func newNetwork(t *testing.T, limits relay.Limits) *network {
	t.Helper()
	wire.Need(t)
	n := &network{t: t, line: wire.NewSwitch(1), conns: make(chan *ws.Conn, 1)}
	t.Cleanup(n.line.Close)
	namespace := func(name, address string) *wire.Namespace {
		ns, err := wire.NewNamespace(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ns.Close() })
		if err := ns.Join(n.line, name, address); err != nil {
			t.Fatal(err)
		}
		return ns
	}
	node := namespace("node", "10.0.0.1/24")
	n.client = namespace("client", "10.0.0.2/24")

	n.hub = hub.New(slog.New(slog.DiscardHandler))
	t.Cleanup(func() { _ = n.hub.Close(canceled(t)) })
	n.hub.SetLimits(limits)
	n.hub.SetAuthorizer(relay.Open{}, 0)
	n.hub.SetResync(notice)
	poller := netpoll.New()
	t.Cleanup(poller.Close)
	poller.SetUnackedTimeout(limits.Silence)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { n.accept(w, r, poller) }))
	if err := node.Do(func() (err error) {
		_ = s.Listener.Close()
		s.Listener, err = net.Listen("tcp", "10.0.0.1:0")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(s.Close)
	n.addr = s.Listener.Addr().String()
	return n
}

// session ends with its connection.
type session struct{ *hub.Session }

func (session) Message(bool, []byte) {}
func (s session) Ended()             { s.Close() }

func (n *network) accept(w http.ResponseWriter, r *http.Request, poller *netpoll.Poller) {
	reservation, err := n.hub.Admit(netip.Addr{})
	if err == nil {
		err = reservation.Identify(relay.Identity{ID: "1", Key: "1"})
	}
	conn, acceptErr := ws.Accept(w, r, ws.Options{Poller: poller, MessageLimit: func() int { return 4096 }})
	if err != nil || acceptErr != nil {
		n.t.Error(err, acceptErr)
		return
	}
	s := reservation.Open(conn)
	if _, err := s.Subscribe(n.t.Context(), relay.Groups("g")); err != nil {
		n.t.Error(err)
	}
	conn.Attend(session{s})
	n.conns <- conn
}

// browser is a client that reads, and answers pings.
type browser struct {
	net.Conn
	last    atomic.Int64 // number of the newest event
	lastAt  atomic.Int64 // Unix nanoseconds
	events  atomic.Int64
	notices atomic.Int64
	code    atomic.Int64 // of the close frame; -1: the connection has ended without one
}

// dial connects a client. Without reads, it leaves everything in its socket.
func (n *network) dial(reads bool) (*browser, *ws.Conn) {
	n.t.Helper()
	b := &browser{}
	if err := n.client.Do(func() (err error) {
		b.Conn, err = net.Dial("tcp", n.addr)
		return err
	}); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = b.Close() })
	if _, err := io.WriteString(b, handshake); err != nil {
		n.t.Fatal(err)
	}
	r := bufio.NewReader(b)
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		n.t.Fatal(resp, err)
	}
	if reads {
		go b.read(&client{n.t, b.Conn, r})
	}
	return b, <-n.conns
}

func (b *browser) read(c *client) {
	for {
		first, p, err := c.next()
		switch {
		case err != nil:
			b.code.CompareAndSwap(0, -1)
			return
		case first == 0x88:
			b.code.Store(int64(binary.BigEndian.Uint16(p)))
		case first == 0x89:
			_, _ = b.Write(frame(0x8a, string(p)))
		case string(p) == notice:
			b.notices.Add(1)
		default:
			number, _, _ := bytes.Cut(p, []byte(" "))
			n, err := strconv.Atoi(string(number))
			if err != nil || int64(n) <= b.last.Load() {
				b.code.Store(-2) // garbled or out of order
				return
			}
			b.last.Store(int64(n))
			b.lastAt.Store(time.Now().UnixNano())
			b.events.Add(1)
		}
	}
}

// emit delivers events of a number of bytes, from a number on.
func (n *network) emit(from, count, size int) {
	events := make([]relay.Event, count)
	for i := range events {
		text := append(fmt.Appendf(nil, "%d ", from+i), bytes.Repeat([]byte("x"), size)...)
		events[i] = relay.Event{Group: "g", Text: text}
	}
	n.hub.Deliver(events)
}

// emitFor delivers events of 2 KB at a rate in bytes a second, and returns the number of the last.
func (n *network) emitFor(d time.Duration, rate, from int) (last int) {
	const size, tick = 2000, 10 * time.Millisecond
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	began := time.Now()
	for sent := 0; time.Since(began) < d; {
		<-ticker.C
		due := int(time.Since(began).Seconds()*float64(rate)) / size
		if due > sent {
			n.emit(from+sent, due-sent, size)
			sent = due
		}
		last = from + sent - 1
	}
	return last
}

// A backlog of 8 MiB for a client on a line of 20 Mbit/s, beside a third of that as normal load, does not close it. The
// client is told, at most once for each full queue, and gets the newest events.
func TestBacklogAtASlowLine(t *testing.T) {
	n := newNetwork(t, relay.DefaultLimits())
	n.line.Set("node", "client", wire.Rule{Rate: 20_000_000, Delay: 10 * time.Millisecond, Queue: 128 << 10})
	b, _ := n.dial(true)
	last := n.emitFor(time.Second, 800_000, 1)
	const backlog = 8 << 20 / 2000
	for range 8 { // in batches, as a link delivers them
		n.emit(last+1, backlog/8, 2000)
		last += backlog / 8
	}
	last = n.emitFor(time.Second, 800_000, last+1)
	testkit.Eventually(t, "the newest event", func() bool { return b.last.Load() == int64(last) || b.code.Load() != 0 })
	t.Logf("%d of %d events, %d notices", b.events.Load(), last, b.notices.Load())
	if code := b.code.Load(); code != 0 || b.notices.Load() == 0 || b.notices.Load() > 9 {
		t.Errorf("closed with %d, %d notices", code, b.notices.Load())
	}
}

// A client on a line so slow that the kernel takes nothing new for longer than the limit of silence stays connected:
// the kernel's own queue shrinks meanwhile.
func TestClientOnASlowLineIsAlive(t *testing.T) {
	limits := relay.DefaultLimits()
	limits.Ping, limits.Silence = time.Second, 2*time.Second
	n := newNetwork(t, limits)
	n.line.Set("node", "client", wire.Rule{Rate: 160_000})
	b, conn := n.dial(true)
	const count = 200
	n.emit(1, count, 2000)
	testkit.Eventually(t, "queued bytes", func() bool { waiting, _ := conn.Waiting(); return waiting > 0 })
	testkit.EventuallyWithin(t, 2*time.Minute, "the last event", func() bool { return b.last.Load() == count || b.code.Load() != 0 })
	if code := b.code.Load(); code != 0 || b.events.Load() != count {
		t.Errorf("closed with %d after %d of %d events", code, b.events.Load(), count)
	}
}

// A line that is dead for a while, at 400 KB/s, leaves the client connected. Soon after the return, the client has the
// newest events and a notice. Meanwhile its queue is bounded. OUTAGE is the time, such as 15s.
func TestDeadLine(t *testing.T) {
	outage := 5 * time.Second
	if text := os.Getenv("OUTAGE"); text != "" {
		var err error
		if outage, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	limits := relay.DefaultLimits()
	n := newNetwork(t, limits)
	const rate = 400_000
	b, conn := n.dial(true)
	last := n.emitFor(time.Second, rate, 1)
	n.line.SetBoth("node", "client", wire.Rule{Down: true})
	most := 0
	for until := time.Now().Add(outage); time.Now().Before(until); {
		last = n.emitFor(100*time.Millisecond, rate, last+1)
		waiting, _ := conn.Waiting()
		most = max(most, waiting)
	}
	n.line.Reset()
	back := time.Now()
	before := b.events.Load()
	for b.events.Load() == before && b.code.Load() == 0 && time.Since(back) < testkit.Patience {
		last = n.emitFor(50*time.Millisecond, rate, last+1)
	}
	first := time.Since(back)
	testkit.Eventually(t, "the newest event", func() bool { return b.last.Load() == int64(last) || b.code.Load() != 0 })
	t.Logf("after %v down: the first event %v after the return, the newest after %v; %d of %d events, %d notices, at most %d KiB queued",
		outage, first, time.Since(back), b.events.Load(), last, b.notices.Load(), most>>10)
	if code := b.code.Load(); code != 0 || b.notices.Load() != 1 {
		t.Errorf("closed with %d, %d notices", code, b.notices.Load())
	}
	if most > limits.QueuePerConnection+64<<10 {
		t.Errorf("%d bytes were queued, the limit is %d", most, limits.QueuePerConnection)
	}
	if tcptuning.CapsRetransmission() && first > 2*time.Second {
		t.Errorf("the first event comes %v after the line's return, want 2 s at most", first)
	}
}

// A client that never reads is closed after the time limit, and its queue is bounded meanwhile.
func TestClientThatNeverReads(t *testing.T) {
	limits := relay.DefaultLimits()
	limits.Ping, limits.Silence = time.Second, 2*time.Second
	limits.QueuePerConnection = 256 << 10
	n := newNetwork(t, limits)
	_, conn := n.dial(false)
	began, last, most := time.Now(), 0, 0
	for n.hub.Stats().Sessions > 0 && time.Since(began) < testkit.Patience {
		last = n.emitFor(100*time.Millisecond, 2_000_000, last+1)
		waiting, _ := conn.Waiting()
		most = max(most, waiting)
	}
	took := time.Since(began)
	t.Logf("closed after %v, at most %d KiB queued", took, most>>10)
	if n.hub.Stats().Sessions > 0 || most > limits.QueuePerConnection+64<<10 {
		t.Errorf("%d sessions after %v, %d bytes queued", n.hub.Stats().Sessions, took, most)
	}
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cancel()
	return ctx
}
