package hub

import (
	"context"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// sweepParts is how many steps a round over all sessions takes; a round takes half a ping interval, so that no
// client waits for its ping much longer than it should.
const sweepParts = 20

// sweep pings clients and ends those that have gone silent: one goroutine for all, instead of timers for each.
// See docs/decisions/hub.md#why-does-one-goroutine-ping-all-clients
func (h *Hub) sweep(ctx context.Context) {
	for part := 0; ; part = (part + 1) % sweepParts {
		limits := h.Limits()
		step := max(limits.Ping/2/sweepParts, time.Millisecond)
		if limits.Ping <= 0 {
			step = time.Second
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(step):
		}
		now := time.Now()
		for _, shard := range h.shards {
			for _, s := range shard.part(part, sweepParts) {
				h.look(s, now, limits)
			}
		}
	}
}

// look pings one client if it is time, or takes it for dead.
// See docs/decisions/hub.md#why-is-no-client-timed-out-before-it-was-pinged
func (h *Hub) look(s *Session, now time.Time, limits *relay.Limits) {
	last, read := relay.At(int64(s.lastPing.Load())*int64(time.Second)), s.socket.LastRead()
	// Nobody is given up who was not asked: a round may come late, and miss a session that moves to another part as others come and go.
	asked := limits.Ping <= 0 || last.After(read) && now.Sub(last) >= limits.Ping/4
	if silent := now.Sub(read); asked && limits.Silence > 0 && silent > limits.Silence {
		h.stats.silent.Add(1)
		h.log.Debug("a client is silent; its websocket is cut", "user", s.identity.Name, "address",
			relay.AddressText(s.address), "silent", silent.Round(time.Millisecond))
		s.socket.Kill()
		return
	}
	if limits.Ping <= 0 {
		return
	}
	if now.Sub(last) >= limits.Ping-limits.Ping/4 {
		if s.socket.Ping() {
			s.lastPing.Store(seconds(now))
		}
	}
}

// seconds is Ticks in half the bytes.
func seconds(t time.Time) uint32 { return uint32(relay.Ticks(t) / int64(time.Second)) }
