package relay

import (
	"context"
	"errors"
	"sync"
	"time"
)

// sweepParts is how many steps a round over all sessions takes; a round takes half a ping interval, so that no
// client waits for its ping much longer than it should.
const sweepParts = 20

// sweep pings clients and ends those that have gone silent: one goroutine for all, instead of timers for each.
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
func (h *Hub) look(s *Session, now time.Time, limits *Limits) {
	last, read := At(int64(s.lastPing.Load())*int64(time.Second)), s.socket.LastRead()
	// Nobody is given up who was not asked: a round may come late, and miss a session that moves to another part as others come and go.
	asked := limits.Ping <= 0 || last.After(read) && now.Sub(last) >= limits.Ping/4
	if silent := now.Sub(read); asked && limits.Silence > 0 && silent > limits.Silence {
		h.stats.silent.Add(1)
		h.log.Debug("a client is silent; its websocket is cut", "user", s.identity.Name, "address", s.address.String(), "silent", silent.Round(time.Millisecond))
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

// strangersWait is how long it takes until everybody is checked once after another kind of authorizer was put in force.
const strangersWait = time.Second

// recheckers is how many questions to the authorizer may be under way for sessions that are open already.
const recheckers = 8

// recheckSessions asks the authorizer again and again whether the clients are still logged in, each once in a recheck interval.
func (h *Hub) recheckSessions(ctx context.Context) {
	slots := make(chan struct{}, recheckers)
	var asking sync.WaitGroup
	defer asking.Wait()
	for part := 0; ; part = (part + 1) % sweepParts {
		every := time.Duration(h.recheck.Load())
		step := every / sweepParts
		changed := h.strangers.Load() > 0 // let in by another kind of authorizer
		switch {
		case changed:
			step = strangersWait / sweepParts
		case every == 0:
			step = time.Second
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(step, time.Millisecond)):
		}
		if every == 0 && !changed {
			continue
		}
		if changed {
			h.strangers.Add(-1)
		}
		for _, shard := range h.shards {
			for _, s := range shard.part(part, sweepParts) {
				select {
				case slots <- struct{}{}:
				case <-ctx.Done():
					return
				}
				asking.Go(func() {
					defer func() { <-slots }()
					h.recheckOne(ctx, s)
				})
			}
		}
	}
}

// farewell is what AWX tells a client that is not logged in.
var farewell = []byte(`{"close": true}`)

// Farewell sends what a client that is not, or no longer, logged in gets, and closes its socket.
func Farewell(s Socket) {
	s.Send(AppendFrame(nil, farewell), 1<<20)
	s.Close(CloseNormal, "")
}

func (h *Hub) recheckOne(ctx context.Context, s *Session) {
	if !s.rechecking.CompareAndSwap(false, true) {
		return
	}
	defer s.rechecking.Store(false)
	err := h.Authorizer().Recheck(ctx, s.identity)
	switch {
	case errors.Is(err, ErrUnauthenticated):
		h.stats.expired.Add(1)
		h.log.Info("the user's login has ended; its websocket is closed", "user", s.identity.Name, "address", s.address.String())
		Farewell(s.socket)
	case errors.Is(err, ErrChanged):
		h.log.Info("the user's rights have changed; its websocket is closed, to connect again", "user", s.identity.Name, "address", s.address.String())
		s.socket.Close(CloseRestart, "rights have changed")
	case err != nil && ctx.Err() == nil:
		h.log.Warn("could not check whether a user is still logged in; its websocket stays", "user", s.identity.Name, "address", s.address.String(), "error", err)
	}
}
