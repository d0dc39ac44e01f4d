package hub

import (
	"log/slog"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit/stepped"
	"github.com/edgerelay/edgerelay/relay"
)

// still is a socket that records pings and Kill.
type still struct {
	read   time.Time
	pings  int
	killed bool
}

func (*still) Send([]byte, int) bool     { return true }
func (*still) SendCopy([]byte, int) bool { return true }
func (s *still) Ping() bool              { s.pings++; return true }
func (s *still) LastRead() time.Time     { return s.read }
func (*still) Close(int, string)         {}
func (s *still) Kill()                   { s.killed = true }
func (*still) Waiting() (int, bool)      { return 0, false }

// While the wall clock is set, pings are in time, and only silent clients time out.
func TestSteppedClockChangesNoTimeout(t *testing.T) {
	h := &Hub{log: slog.New(slog.DiscardHandler)}
	limits := &relay.Limits{Ping: 20 * time.Second, Silence: 40 * time.Second}
	for _, step := range []time.Duration{-time.Hour, 0, time.Hour} {
		now := time.Now()
		socket := &still{read: relay.At(relay.Ticks(now))}
		s := &Session{socket: socket}
		s.lastPing.Store(seconds(now))
		for _, c := range []struct {
			after  time.Duration
			pings  int
			killed bool
		}{
			{time.Second, 0, false},
			{10 * time.Second, 0, false},
			{20 * time.Second, 1, false},
			{25 * time.Second, 1, false},
			{39 * time.Second, 2, false},
			{41 * time.Second, 2, false},
			{45 * time.Second, 2, true},
		} {
			h.pingIfDue(s, stepped.By(now.Add(c.after), step), limits)
			if socket.pings != c.pings || socket.killed != c.killed {
				t.Errorf("a step of %v, after %v: %d pings, killed %v; want %d, %v", step, c.after, socket.pings,
					socket.killed, c.pings, c.killed)
			}
		}
	}
}

// A client that the rounds have missed for long is pinged before it may time out.
func TestMissedClientIsPingedBeforeTimeout(t *testing.T) {
	h := &Hub{log: slog.New(slog.DiscardHandler)}
	limits := &relay.Limits{Ping: 20 * time.Second, Silence: 40 * time.Second}
	now := time.Now()
	socket := &still{read: now}
	s := &Session{socket: socket}
	s.lastPing.Store(seconds(now.Add(-time.Second)))
	for _, c := range []struct {
		after  time.Duration
		pings  int
		killed bool
	}{{61 * time.Second, 1, false}, {62 * time.Second, 1, false}, {71 * time.Second, 1, true}} {
		h.pingIfDue(s, now.Add(c.after), limits)
		if socket.pings != c.pings || socket.killed != c.killed {
			t.Errorf("after %v: %d pings, killed %v; want %d, %v", c.after, socket.pings, socket.killed, c.pings,
				c.killed)
		}
	}
}
