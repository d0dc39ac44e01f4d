package hub

import (
	"log/slog"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// quietSocket is the socket of a client that sends nothing.
type quietSocket struct {
	read   time.Time
	behind bool // bytes are queued, so that Ping sends nothing
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

// However late the round, a client without a ping since its last bytes does not time out.
func TestClientIsPingedBeforeTimeout(t *testing.T) {
	h := &Hub{log: slog.New(slog.DiscardHandler), admission: newAdmission()}
	limits := relay.DefaultLimits()
	start := relay.At(0).Add(time.Hour)
	socket := &quietSocket{read: start}
	s := &Session{shard: newShard(h), socket: socket}
	s.lastPing.Store(seconds(start.Add(-20 * time.Second)))

	h.pingIfDue(s, start.Add(time.Minute), &limits)
	if socket.killed || socket.pings != 1 {
		t.Fatalf("killed %v, %d pings; want a ping first", socket.killed, socket.pings)
	}
	h.pingIfDue(s, start.Add(70*time.Second), &limits)
	if !socket.killed {
		t.Error("a client without an answer to a ping is kept")
	}

	limits.Ping = 0
	unpinged := &quietSocket{read: start}
	h.pingIfDue(&Session{shard: newShard(h), socket: unpinged}, start.Add(time.Minute), &limits)
	if !unpinged.killed || unpinged.pings != 0 {
		t.Errorf("without pings: killed %v, %d pings", unpinged.killed, unpinged.pings)
	}
}

// A slow client gets no pings, and so does not time out here: the socket measures its time.
func TestSlowClientDoesNotTimeOut(t *testing.T) {
	h := &Hub{log: slog.New(slog.DiscardHandler), admission: newAdmission()}
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
		t.Error("a pinged client without an answer is kept")
	}
}
