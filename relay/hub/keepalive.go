package hub

import (
	"context"
	"runtime"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// sweepParts is the least number of steps of a round over all sessions.
	sweepParts = 20
	// stepSessions is the number of sessions in a step of a round, until the steps would be shorter than minStep. Few
	// sessions in a step spread the pings, and so the pongs, evenly.
	stepSessions = 256
	minStep      = 10 * time.Millisecond
	// unpingedRound is the length of a round without pings, which only finds clients that have timed out.
	unpingedRound = sweepParts * time.Second
)

// pingSessions pings clients and disconnects clients that have timed out, with a single goroutine instead of a timer
// per session.
// See docs/decisions/hub.md#why-does-one-goroutine-ping-all-clients
func (h *Hub) pingSessions(ctx context.Context) {
	for ctx.Err() == nil {
		h.pingRound(ctx)
	}
}

// pingRound visits all sessions once, within half a ping interval, so that no ping is much too late. The steps have
// fixed times: the work of a step does not delay the next. A change of the interval ends the round.
func (h *Hub) pingRound(ctx context.Context) {
	interval, began := h.Limits().Ping, time.Now()
	length := unpingedRound
	if interval > 0 {
		length = max(interval/2, sweepParts*time.Millisecond)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var sessions []*Session
	for step, steps := 0, sweepSteps(int(h.stats.sessions.Load()), length); step < steps; step++ {
		timer.Reset(time.Until(began.Add(length * time.Duration(step+1) / time.Duration(steps))))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		limits, now := h.Limits(), time.Now()
		if limits.Ping != interval {
			return
		}
		for _, shard := range h.shards {
			sessions = shard.appendPart(sessions[:0], step, steps)
			for i, s := range sessions {
				if i%yieldEvery == yieldEvery-1 {
					runtime.Gosched()
				}
				h.pingIfDue(s, now, limits)
			}
		}
		clear(sessions)
	}
}

// sweepSteps returns the number of steps of a round over n sessions.
func sweepSteps(n int, length time.Duration) int {
	return max(sweepParts, min(n/stepSessions, int(length/minStep)))
}

// pingIfDue pings a client if a ping is due, or disconnects a client that has timed out.
// See docs/decisions/hub.md#why-is-no-client-timed-out-before-it-was-pinged
func (h *Hub) pingIfDue(s *Session, now time.Time, limits *relay.Limits) {
	lastPing := relay.At(int64(s.lastPing.Load()) * int64(time.Second))
	// A ping finds out whether the client has taken bytes, so it comes first.
	if limits.Ping > 0 && now.Sub(lastPing) >= limits.Ping-limits.Ping/4 && (s.socket.Ping() || s.hasQueue()) {
		s.lastPing.Store(seconds(now))
	}
	lastRead := s.socket.LastRead()
	// Never time out a client that has not been pinged: a round may be late, or miss a session that moves to another
	// part as sessions come and go.
	pinged := limits.Ping <= 0 || lastPing.After(lastRead) && now.Sub(lastPing) >= limits.Ping/4
	if silence := now.Sub(lastRead); pinged && limits.Silence > 0 && silence > limits.Silence {
		h.stats.timedOut.Add(1)
		h.log.Debug("client timed out", "user", s.identity.Name, "address", relay.AddressText(s.address),
			"duration", silence.Round(time.Millisecond))
		s.socket.Kill()
	}
}

// hasQueue reports whether bytes are queued for the client. They take the place of a ping: a client that is alive takes
// some of them, or of those in the kernel, which counts as a sign of life.
func (s *Session) hasQueue() bool {
	queued, _ := s.socket.Waiting()
	return queued > 0
}

// seconds is [relay.Ticks] in seconds, which need half the bytes.
func seconds(t time.Time) uint32 { return uint32(relay.Ticks(t) / int64(time.Second)) }
