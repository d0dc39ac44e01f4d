package hub

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Pace is the speed of a drain.
type Pace struct {
	// Duration is the time over which evictions are spread evenly; 0 is at once.
	Duration time.Duration
	// Rate is the greatest number of evictions a second, 0 for any number. If both are set, the slower pace applies.
	Rate float64
}

// Over returns the time that n evictions take.
func (p Pace) Over(n int) time.Duration {
	takes := max(p.Duration, 0)
	if p.Rate > 0 {
		takes = max(takes, time.Duration(float64(n)/p.Rate*float64(time.Second)))
	}
	return takes
}

// DrainStatus is the progress of a drain.
type DrainStatus struct {
	// State is "off", "draining" while evictions are still due, "leaving" while evicted clients are still connected, or
	// "drained".
	State string
	// Clients is the number of clients when the drain began, Evicted the number of evicted clients, Open the number of
	// connections now.
	Clients int
	Evicted int
	Open    int
	// Began is the beginning of the drain, Ends the time of the last eviction; both are zero without a drain.
	Began time.Time
	Ends  time.Time
}

// ErrDraining rejects connections during a drain and after it.
var ErrDraining = errors.New("node is draining; reconnect")

// drainReason is the reason in the close frame of an evicted client.
const drainReason = "node is draining; reconnect"

// drainTick is the interval at which evictions are due.
const drainTick = 10 * time.Millisecond

// drain is a drain in progress or completed. The hub's drainMu guards its fields.
type drain struct {
	began, ends      time.Time
	clients, evicted int
	cancel           context.CancelFunc
	done             chan struct{} // closed after the last eviction, or when the drain is cancelled
}

// Drain evicts all clients, in random order and at a set pace, with close code 1012 ("service restart"), so that they
// reconnect to other nodes one after another. Until its turn, a client gets its events. New connections are rejected
// with [ErrDraining] until [Hub.Undrain]. Drain returns at once. A drain in progress continues at the new pace.
// See docs/decisions/hub.md#why-does-a-drain-close-with-1012-and-a-stop-with-1001
func (h *Hub) Drain(p Pace) {
	h.drainMu.Lock()
	defer h.drainMu.Unlock()
	began, evicted := time.Now(), 0
	if old := h.drain; old != nil {
		old.cancel()
		began, evicted = old.began, old.evicted
	}
	ctx, cancel := context.WithCancel(context.Background())
	d := &drain{began: began, evicted: evicted, cancel: cancel, done: make(chan struct{})}
	h.drain = d
	h.draining.Store(true) // before the list is made: open evicts later sessions
	sessions := h.allSessions()
	takes := p.Over(len(sessions))
	d.clients, d.ends = evicted+len(sessions), time.Now().Add(takes)
	go h.evict(ctx, d, sessions, takes)
}

// evict evicts sessions, evenly spread over a time.
func (h *Hub) evict(ctx context.Context, d *drain, sessions []*Session, takes time.Duration) {
	defer close(d.done)
	rand.Shuffle(len(sessions), func(i, k int) { sessions[i], sessions[k] = sessions[k], sessions[i] })
	began := time.Now()
	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	for next := 0; ; {
		due := len(sessions)
		if past := time.Since(began); past < takes {
			due = int(float64(len(sessions)) * float64(past) / float64(takes))
		}
		h.drainMu.Lock()
		if ctx.Err() != nil {
			h.drainMu.Unlock()
			return
		}
		for ; next < due; next++ {
			sessions[next].socket.Close(relay.CloseRestart, drainReason)
			sessions[next] = nil
			d.evicted++
			h.stats.drained.Add(1)
		}
		h.drainMu.Unlock()
		if next == len(sessions) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// Undrain ends a drain: clients that have not been evicted stay, and new ones are admitted. It reports whether there
// was a drain.
func (h *Hub) Undrain() bool {
	h.drainMu.Lock()
	d := h.drain
	h.drain = nil
	h.draining.Store(false)
	h.drainMu.Unlock()
	if d == nil {
		return false
	}
	d.cancel()
	<-d.done
	return true
}

// Drained waits until the drain has evicted all clients and their connections have ended, or until ctx ends.
func (h *Hub) Drained(ctx context.Context) error {
	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	for {
		if s := h.DrainStatus().State; s == "off" || s == "drained" {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// DrainStatus returns the progress of the drain.
func (h *Hub) DrainStatus() DrainStatus {
	h.drainMu.Lock()
	defer h.drainMu.Unlock()
	s := DrainStatus{State: "off", Open: int(h.stats.sessions.Load())}
	d := h.drain
	if d == nil {
		return s
	}
	s.Clients, s.Evicted, s.Began, s.Ends = d.clients, d.evicted, d.began, d.ends
	switch {
	case d.evicted < d.clients:
		s.State = "draining"
	case s.Open > 0:
		s.State = "leaving"
	default:
		s.State = "drained"
	}
	return s
}

// goingAway returns the close frame for clients that have to leave now.
func (h *Hub) goingAway() (code int, reason string) {
	if h.draining.Load() {
		return relay.CloseRestart, drainReason
	}
	return relay.CloseGoingAway, "the server is going away"
}
