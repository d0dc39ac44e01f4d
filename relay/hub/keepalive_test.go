package hub

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
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
func (q *quietSocket) Waiting() (int, bool) {
	if q.behind {
		return 1, false
	}
	return 0, false
}
func (*quietSocket) Close(int, string)     {}
func (q *quietSocket) LastRead() time.Time { return q.read }
func (q *quietSocket) Ping() bool          { q.pings++; return !q.behind }
func (q *quietSocket) Kill()               { q.killed = true }

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

// A client with queued bytes gets no pings. It times out all the same if it takes none of the bytes, and stays while it
// takes some.
func TestClientWithQueuedBytesTimesOut(t *testing.T) {
	h := &Hub{log: slog.New(slog.DiscardHandler), admission: newAdmission()}
	limits := relay.DefaultLimits()
	start := relay.At(0).Add(time.Hour)
	for _, c := range []struct {
		name  string
		takes bool
		until time.Duration // it is killed, within a round after 40 s
	}{{"takes nothing", false, 50 * time.Second}, {"takes some", true, 0}} {
		t.Run(c.name, func(t *testing.T) {
			socket := &quietSocket{read: start, behind: true}
			s := &Session{shard: newShard(h), socket: socket}
			s.lastPing.Store(seconds(start.Add(-20 * time.Second)))
			var after time.Duration
			for ; after < 5*time.Minute && !socket.killed; after += limits.Ping / 2 {
				if c.takes && after%(30*time.Second) == 0 {
					socket.read = start.Add(after)
				}
				h.pingIfDue(s, start.Add(after), &limits)
				if socket.killed && after < limits.Silence {
					t.Fatalf("killed after %v", after)
				}
			}
			if killed := socket.killed; killed == c.takes || killed && after > c.until+limits.Ping/2 {
				t.Errorf("killed %v after %v", killed, after)
			}
		})
	}
}

// However late the round, a client whose bytes have just been queued does not time out.
func TestQueuedBytesTakeAPingsPlace(t *testing.T) {
	h := &Hub{log: slog.New(slog.DiscardHandler), admission: newAdmission()}
	limits := relay.DefaultLimits()
	start := relay.At(0).Add(time.Hour)
	socket := &quietSocket{read: start, behind: true}
	s := &Session{shard: newShard(h), socket: socket}
	s.lastPing.Store(seconds(start.Add(-20 * time.Second)))
	h.pingIfDue(s, start.Add(2*time.Minute), &limits)
	if socket.killed {
		t.Fatal("the client had no time to take the bytes")
	}
	h.pingIfDue(s, start.Add(130*time.Second), &limits)
	if !socket.killed {
		t.Error("a client that takes nothing is kept")
	}
}

// pingedSocket is the socket of a client that answers each ping at once. A ping takes the node a while.
type pingedSocket struct {
	quietSocket
	cost time.Duration
	at   []time.Time
}

func (p *pingedSocket) Ping() bool {
	p.at = append(p.at, time.Now())
	p.read = time.Now()
	time.Sleep(p.cost)
	return true
}

// However many clients, and however long their pings take, each client gets a ping in every interval, and no moment
// has a lump of them.
func TestPingsAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(relay.At(0).Add(time.Hour)))   // Ticks count from the start of the process
		const clients, cost = 20_000, 500 * time.Microsecond // all together: four fifths of half an interval
		h := &Hub{log: slog.New(slog.DiscardHandler), admission: newAdmission()}
		limits := relay.DefaultLimits()
		limits.Ping = 25 * time.Second
		h.SetLimits(limits)
		sh := newShard(h)
		h.shards = []*shard{sh}
		sockets := make([]*pingedSocket, clients)
		for i := range sockets {
			sockets[i] = &pingedSocket{cost: cost}
			sockets[i].read = time.Now()
			h.Open(sockets[i], relay.Identity{}, netip.Addr{})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 4*limits.Ping+time.Second)
		defer cancel()
		began := time.Now()
		h.pingSessions(ctx)
		lumps := map[time.Duration]int{}
		for i, s := range sockets {
			last, most := began, limits.Ping+limits.Ping/3 // the first depends on the client's place in the round
			for _, at := range s.at {
				if gap := at.Sub(last); gap > most {
					t.Fatalf("client %d: %s between two pings, want at most %s", i, gap, most)
				}
				last, most = at, limits.Ping+limits.Ping/10
				lumps[at.Sub(began).Truncate(100*time.Millisecond)]++
			}
			if len(s.at) < 3 {
				t.Fatalf("client %d: %d pings in four intervals", i, len(s.at))
			}
		}
		mean := clients / 250
		for at, n := range lumps {
			if n > 4*mean {
				t.Errorf("%d pings in the tenth of a second after %s, where the mean is %d", n, at, mean)
			}
		}
	})
}
