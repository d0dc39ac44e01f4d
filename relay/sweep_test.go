package relay

import (
	"io"
	"log/slog"
	"net/netip"
	"testing"
	"time"
)

// quietSocket is a client that says nothing.
type quietSocket struct {
	read   time.Time
	pings  int
	killed bool
}

func (*quietSocket) Send([]byte, int) bool     { return true }
func (*quietSocket) SendCopy([]byte, int) bool { return true }
func (*quietSocket) Waiting() (int, bool)      { return 0, false }
func (*quietSocket) Close(int, string)         {}
func (q *quietSocket) LastRead() time.Time     { return q.read }
func (q *quietSocket) Ping()                   { q.pings++ }
func (q *quietSocket) Kill()                   { q.killed = true }

// A client that no ping has gone to since it was last heard is not given up, however late the round comes.
func TestNobodyIsGivenUpUnasked(t *testing.T) {
	h := &Hub{log: slog.New(slog.NewTextHandler(io.Discard, nil)), admission: admission{byAddress: map[netip.Addr]int{}, byUser: map[string]int{}}}
	limits := DefaultLimits()
	start := epoch.Add(time.Hour)
	socket := &quietSocket{read: start}
	s := &Session{hub: h, socket: socket}
	s.lastPing.Store(seconds(start.Add(-20 * time.Second)))

	h.look(s, start.Add(time.Minute), &limits)
	if socket.killed || socket.pings != 1 {
		t.Fatalf("killed %v, %d pings; want the question first", socket.killed, socket.pings)
	}
	h.look(s, start.Add(70*time.Second), &limits)
	if !socket.killed {
		t.Error("a client that does not answer is kept")
	}

	limits.Ping = 0
	unasked := &quietSocket{read: start}
	h.look(&Session{hub: h, socket: unasked}, start.Add(time.Minute), &limits)
	if !unasked.killed || unasked.pings != 0 {
		t.Errorf("without pings: killed %v, %d pings", unasked.killed, unasked.pings)
	}
}
