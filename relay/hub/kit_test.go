package hub_test

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// socket is a client's connection that records texts and calls.
type socket struct {
	mu     sync.Mutex
	texts  []string
	pings  int
	code   int
	killed bool
	read   atomic.Int64
	refuse bool

	waiting int
	slow    bool
}

func newSocket() *socket {
	s := &socket{}
	s.read.Store(time.Now().UnixNano())
	return s
}

func (s *socket) Send(frames []byte, _ int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse || s.code != 0 || s.killed {
		return false
	}
	for len(frames) > 0 {
		n, head := int(frames[1]), 2
		switch n {
		case 126:
			n, head = int(binary.BigEndian.Uint16(frames[2:])), 4
		case 127:
			n, head = int(binary.BigEndian.Uint64(frames[2:])), 10
		}
		s.texts = append(s.texts, string(frames[head:head+n]))
		frames = frames[head+n:]
	}
	return true
}

func (s *socket) SendCopy(frames []byte, limit int) bool { return s.Send(frames, limit) }

func (s *socket) Ping() bool { s.mu.Lock(); defer s.mu.Unlock(); s.pings++; return true }

func (s *socket) Waiting() (int, bool) { s.mu.Lock(); defer s.mu.Unlock(); return s.waiting, s.slow }

func (s *socket) LastRead() time.Time { return time.Unix(0, s.read.Load()) }

func (s *socket) Close(code int, _ string) { s.mu.Lock(); s.code = code; s.mu.Unlock() }

func (s *socket) Kill() { s.mu.Lock(); s.killed = true; s.mu.Unlock() }

func (s *socket) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.texts)
}

func (s *socket) closed() (code int, killed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.code, s.killed
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// newHub returns a hub on a new memory layer, and an emitter on the same layer.
func newHub(t testing.TB) (*hub.Hub, relay.Broker) {
	t.Helper()
	h := hub.New(quiet)
	layer := memory.NewLayer()
	if err := h.SetBroker(context.Background(), layer.Broker()); err != nil {
		t.Fatal(err)
	}
	h.SetAuthorizer(relay.Open{}, 0)
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = h.Close(ctx)
	})
	return h, layer.Broker()
}

func open(h *hub.Hub) (*hub.Session, *socket) {
	s := newSocket()
	id := relay.Identity{ID: "1", Key: "1"}
	reservation, err := h.Admit(netip.Addr{})
	if err == nil {
		err = reservation.Identify(id)
	}
	if err != nil { // draining, for example
		return h.Open(s, id, netip.Addr{}), s
	}
	return reservation.Open(s), s
}

func subscribe(t testing.TB, h *hub.Hub, s *hub.Session, groups ...string) relay.Change {
	t.Helper()
	c, err := s.Subscribe(context.Background(), relay.Groups(groups...))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func publish(t testing.TB, b relay.Broker, group, text string) {
	t.Helper()
	if _, err := b.Publish(context.Background(), group, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// discard is a socket without any cost.
type discard struct{}

func (discard) Send([]byte, int) bool { return true }

func (discard) SendCopy([]byte, int) bool { return true }

func (discard) Ping() bool { return true }

func (discard) Waiting() (int, bool) { return 0, false }

func (discard) LastRead() time.Time { return time.Now() }

func (discard) Close(int, string) {}

func (discard) Kill() {}
