package hub

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Pace says how fast clients are sent away.
type Pace struct {
	// Duration is the time over which the goodbyes are spread evenly; 0 is at once.
	Duration time.Duration
	// Rate is how many goodbyes there may be in a second, 0 for any number. Where it needs more time than Duration, it prevails.
	Rate float64
}

// Over returns how long n goodbyes take.
func (p Pace) Over(n int) time.Duration {
	takes := max(p.Duration, 0)
	if p.Rate > 0 {
		takes = max(takes, time.Duration(float64(n)/p.Rate*float64(time.Second)))
	}
	return takes
}

// DrainStatus tells how far a drain is.
type DrainStatus struct {
	// State is "off", "draining" while clients have still to be told, "leaving" while some have not gone yet, or "drained".
	State string `json:"state"`
	// Clients is how many there were when it began, Told how many have got their goodbye, Open how many connections there are now.
	Clients int `json:"clients"`
	Told    int `json:"told"`
	Open    int `json:"open"`
	// Began is when the drain began, Ends when the last client is told, both zero where there is none.
	Began time.Time `json:"began,omitzero"`
	Ends  time.Time `json:"ends,omitzero"`
}

// ErrDraining refuses a new connection while the node is being drained, and afterwards.
var ErrDraining = errors.New("this node is being drained; another one serves you")

// goodbye is the reason that a drained client gets with its close frame.
const goodbye = "this node is being drained: connect again"

// drainTick is how finely goodbyes are spread.
const drainTick = 10 * time.Millisecond

// drain is one drain. Its fields are guarded by the hub's drainMu.
type drain struct {
	began, ends   time.Time
	clients, told int
	cancel        context.CancelFunc
	done          chan struct{} // closed when everybody has been told, or it was cancelled
}

// Drain tells all clients, in random order and at a set pace, to connect again (close code 1012, "service restart"), so that
// they come to other nodes one after another. Until its turn a client gets its events; new ones are refused
// with ErrDraining until [Hub.Undrain]. It returns at once. A drain under way goes on at the new pace.
// See docs/decisions/hub.md#why-does-a-drain-close-with-1012-and-a-stop-with-1001
func (h *Hub) Drain(p Pace) {
	h.drainMu.Lock()
	defer h.drainMu.Unlock()
	began, told := time.Now(), 0
	if old := h.drain; old != nil {
		old.cancel()
		began, told = old.began, old.told
	}
	ctx, cancel := context.WithCancel(context.Background())
	d := &drain{began: began, told: told, cancel: cancel, done: make(chan struct{})}
	h.drain = d
	h.draining.Store(true) // before the list is made: who comes later is sent away by Open
	sessions := h.everybody()
	takes := p.Over(len(sessions))
	d.clients, d.ends = told+len(sessions), time.Now().Add(takes)
	go h.sendAway(ctx, d, sessions, takes)
}

// sendAway says goodbye to sessions, evenly spread over a time.
func (h *Hub) sendAway(ctx context.Context, d *drain, sessions []*Session, takes time.Duration) {
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
			sessions[next].socket.Close(relay.CloseRestart, goodbye)
			sessions[next] = nil
			d.told++
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

// Undrain ends a drain: who has not been told yet stays, and new clients are let in again. It reports whether there was one.
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

// Drained waits until all clients have been told by the drain under way, and have gone, or until ctx ends.
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

// DrainStatus returns how far the drain is.
func (h *Hub) DrainStatus() DrainStatus {
	h.drainMu.Lock()
	defer h.drainMu.Unlock()
	s := DrainStatus{State: "off", Open: int(h.stats.sessions.Load())}
	d := h.drain
	if d == nil {
		return s
	}
	s.Clients, s.Told, s.Began, s.Ends = d.clients, d.told, d.began, d.ends
	switch {
	case d.told < d.clients:
		s.State = "draining"
	case s.Open > 0:
		s.State = "leaving"
	default:
		s.State = "drained"
	}
	return s
}

// goingAway is with what close frame clients are sent away now.
func (h *Hub) goingAway() (code int, reason string) {
	if h.draining.Load() {
		return relay.CloseRestart, goodbye
	}
	return relay.CloseGoingAway, "the server is going away"
}

// everybody returns the sessions there are now.
func (h *Hub) everybody() (all []*Session) {
	for _, s := range h.shards {
		all = append(all, s.all()...)
	}
	return all
}
