package hub

import (
	"errors"
	"log/slog"
	"math"
	"net/netip"
	"runtime"
	"testing"

	"github.com/edgerelay/edgerelay/relay"
)

// behind is a socket with queued bytes.
type behind struct {
	still
	bytes int
	code  int
}

func (b *behind) Waiting() (int, bool) { return b.bytes, b.code != 0 }
func (b *behind) Close(code int, _ string) {
	if b.code == 0 {
		b.code, b.bytes = code, min(b.bytes, 1) // a write in progress stays
	}
}

func newPressure(t *testing.T, waiting ...int) (*Hub, *pressure, []*behind) {
	h := New(slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		for _, s := range h.allSessions() {
			s.Close()
		}
		_ = h.Close(t.Context())
	})
	p := &pressure{hub: h, evicted: map[*Session]bool{}}
	var sockets []*behind
	for _, n := range waiting {
		s := &behind{bytes: n}
		sockets = append(sockets, s)
		h.Open(s, relay.Identity{}, netip.Addr{})
	}
	return h, p, sockets
}

func TestSlowestConsumersAreEvictedFirst(t *testing.T) {
	h, p, s := newPressure(t, 100, 0, 400, 300, 50)
	m := memory{floor: 800, limit: 1000, cycles: 10}
	p.read = func() memory { return m }
	closed := func(want ...int) {
		t.Helper()
		for i, s := range s {
			if s.code != want[i] {
				t.Errorf("socket %d: closed with %d, want %d", i, s.code, want[i])
			}
		}
	}
	p.relieve() // memory is not short
	closed(0, 0, 0, 0, 0)
	m.floor = 1100 // 400 too much
	p.relieve()
	closed(0, 0, relay.ClosePolicy, 0, 0)
	m.cycles = 11
	p.relieve() // the garbage may not have been collected yet
	closed(0, 0, relay.ClosePolicy, 0, 0)
	m.cycles, m.floor = 12, 1010 // not enough was freed
	p.relieve()
	closed(relay.ClosePolicy, 0, relay.ClosePolicy, relay.ClosePolicy, 0)
	m.cycles = 14
	p.relieve()
	closed(relay.ClosePolicy, 0, relay.ClosePolicy, relay.ClosePolicy, relay.ClosePolicy)
	if !s[2].killed || s[1].killed {
		t.Error("an evicted client with queued bytes was not aborted")
	}
	if got := h.Stats().EvictedForMemory; got != 4 {
		t.Errorf("%d evictions, want 4", got)
	}

	// Without a slow consumer, new connections are rejected until memory suffices.
	for _, s := range s {
		s.bytes = 0
	}
	m.cycles = 20
	p.relieve()
	if _, err := h.Admit(netip.Addr{}); !errors.Is(err, ErrNoMemory) {
		t.Errorf("admitted: %v", err)
	}
	m.floor = 500
	p.relieve()
	if _, err := h.Admit(netip.Addr{}); err != nil {
		t.Error(err)
	}
	if s[1].code != 0 || s[1].killed {
		t.Error("a client without queued bytes was closed")
	}
}

func TestQueueTotalEvictsSlowest(t *testing.T) {
	h, p, s := newPressure(t, 500, 100, 450)
	p.read = func() memory { return memory{limit: math.Inf(1)} }
	p.relieve() // no limit
	l := relay.DefaultLimits()
	l.QueueTotal = 1000
	h.SetLimits(l)
	p.relieve()
	if s[0].code != relay.ClosePolicy || s[1].code != 0 || s[2].code != 0 {
		t.Errorf("closed with %d, %d, %d", s[0].code, s[1].code, s[2].code)
	}
}

func TestMemoryReader(t *testing.T) {
	r := newMemoryReader()
	with := func() memory {
		held := make([]byte, 64<<20)
		defer runtime.KeepAlive(held)
		runtime.GC()
		return r.read()
	}()
	runtime.GC()
	without := r.read()
	if d := with.floor - without.floor; d < 60<<20 || d > 80<<20 {
		t.Errorf("64 MiB less are %.1f MiB", d/(1<<20))
	}
	if with.cycles >= without.cycles || !math.IsInf(with.limit, 1) && with.limit < 1<<20 {
		t.Errorf("%+v, %+v", with, without)
	}
}
