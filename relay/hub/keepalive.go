package hub

import (
	"context"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// sweepParts is the number of steps of a round over all sessions. A round of pings takes half a ping interval, so that
// no ping is much too late.
const sweepParts = 20

// pingSessions pings clients and disconnects clients that have timed out, with a single goroutine instead of a timer
// per session.
// See docs/decisions/hub.md#why-does-one-goroutine-ping-all-clients
func (h *Hub) pingSessions(ctx context.Context) {
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
				h.pingIfDue(s, now, limits)
			}
		}
	}
}

// pingIfDue pings a client if a ping is due, or disconnects a client that has timed out.
// See docs/decisions/hub.md#why-is-no-client-timed-out-before-it-was-pinged
func (h *Hub) pingIfDue(s *Session, now time.Time, limits *relay.Limits) {
	lastPing, lastRead := relay.At(int64(s.lastPing.Load())*int64(time.Second)), s.socket.LastRead()
	// Never time out a client that has not been pinged: a round may be late, or miss a session that moves to another
	// part as sessions come and go.
	pinged := limits.Ping <= 0 || lastPing.After(lastRead) && now.Sub(lastPing) >= limits.Ping/4
	if silence := now.Sub(lastRead); pinged && limits.Silence > 0 && silence > limits.Silence {
		h.stats.timedOut.Add(1)
		h.log.Debug("client timed out", "user", s.identity.Name, "address", relay.AddressText(s.address),
			"duration", silence.Round(time.Millisecond))
		s.socket.Kill()
		return
	}
	if limits.Ping > 0 && now.Sub(lastPing) >= limits.Ping-limits.Ping/4 && s.socket.Ping() {
		s.lastPing.Store(seconds(now))
	}
}

// seconds is [relay.Ticks] in seconds, which need half the bytes.
func seconds(t time.Time) uint32 { return uint32(relay.Ticks(t) / int64(time.Second)) }
