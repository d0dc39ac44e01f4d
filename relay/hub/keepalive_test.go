package hub

import (
	"io"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// quietSocket is a client that says nothing.
type quietSocket struct {
	read   time.Time
	behind bool // with what it is sent, so that it is not pinged
	pings  int
	killed bool
}

func (*quietSocket) Send([]byte, int) bool     { return true }
func (*quietSocket) SendCopy([]byte, int) bool { return true }
func (*quietSocket) Waiting() (int, bool)      { return 0, false }
func (*quietSocket) Close(int, string)         {}
func (q *quietSocket) LastRead() time.Time     { return q.read }
func (q *quietSocket) Ping() bool              { q.pings++; return !q.behind }
func (q *quietSocket) Kill()                   { q.killed = true }

// A client that no ping has gone to since it was last heard is not given up, however late the round comes.
func TestNobodyIsGivenUpUnasked(t *testing.T) {
	h := &Hub{log: slog.New(slog.NewTextHandler(io.Discard, nil)), admission: admission{byAddress: map[netip.Addr]int{}, byUser: map[string]int{}}}
	limits := relay.DefaultLimits()
	start := relay.At(0).Add(time.Hour)
	socket := &quietSocket{read: start}
	s := &Session{shard: newShard(h), socket: socket}
	s.lastPing.Store(seconds(start.Add(-20 * time.Second)))

	h.pingIfDue(s, start.Add(time.Minute), &limits)
	if socket.killed || socket.pings != 1 {
		t.Fatalf("killed %v, %d pings; want the question first", socket.killed, socket.pings)
	}
	h.pingIfDue(s, start.Add(70*time.Second), &limits)
	if !socket.killed {
		t.Error("a client that does not answer is kept")
	}

	limits.Ping = 0
	unasked := &quietSocket{read: start}
	h.pingIfDue(&Session{shard: newShard(h), socket: unasked}, start.Add(time.Minute), &limits)
	if !unasked.killed || unasked.pings != 0 {
		t.Errorf("without pings: killed %v, %d pings", unasked.killed, unasked.pings)
	}
}

// Nor is one that is behind with what it was sent, and has not been pinged for that: its time is the socket's to count.
func TestNobodyIsGivenUpWhoIsBehind(t *testing.T) {
	h := &Hub{log: slog.New(slog.NewTextHandler(io.Discard, nil)), admission: admission{byAddress: map[netip.Addr]int{}, byUser: map[string]int{}}}
	limits := relay.DefaultLimits()
	start := relay.At(0).Add(time.Hour)
	socket := &quietSocket{read: start, behind: true}
	s := &Session{shard: newShard(h), socket: socket}
	s.lastPing.Store(seconds(start.Add(-time.Second)))
	for after := range 6 {
		h.pingIfDue(s, start.Add(time.Duration(20*after)*time.Second), &limits)
	}
	if socket.killed || socket.pings == 0 {
		t.Fatalf("killed %v, %d pings tried", socket.killed, socket.pings)
	}
	socket.behind = false
	h.pingIfDue(s, start.Add(2*time.Minute), &limits)
	h.pingIfDue(s, start.Add(130*time.Second), &limits)
	if !socket.killed {
		t.Error("a client that could be asked and does not answer is kept")
	}
}
