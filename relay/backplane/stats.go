package backplane

import (
	"sync"
	"sync/atomic"
	"time"
)

// Stats are a backplane's counters since New.
type Stats struct {
	// FramesIn and FramesOut count WebSocket messages, EventsIn and EventsOut events. EventsIn counts events that
	// were delivered to local clients, EventsOut each event once for each peer, however often it is sent again.
	FramesIn, FramesOut, EventsIn, EventsOut uint64
	// Dropped counts dropped events and messages by reason.
	Dropped map[string]uint64
	// Rejected counts rejected handshakes by reason.
	Rejected map[Rejection]uint64
	// ClockSkew is the largest lag of a peer's clock, negative if that clock is ahead. Of peers that cannot be asked, and
	// of rejected ones, only the last handshake with a right secret counts.
	ClockSkew time.Duration
}

type counters struct {
	framesIn, framesOut, eventsIn, eventsOut atomic.Uint64
	skew                                     atomic.Int64

	mu      sync.Mutex
	dropped map[string]uint64
	refused map[Rejection]uint64
	losses  map[string]PeerLoss // by name of the peer
}

func (c *counters) drop(why fault, n int) {
	c.mu.Lock()
	c.dropped[string(why)] += uint64(n)
	c.mu.Unlock()
}

func (c *counters) reject(why Rejection) {
	c.mu.Lock()
	c.refused[why]++
	c.mu.Unlock()
}

// Stats returns the current counters.
func (b *Backplane) Stats() Stats {
	c := &b.stats
	s := Stats{
		FramesIn: c.framesIn.Load(), FramesOut: c.framesOut.Load(),
		EventsIn: c.eventsIn.Load(), EventsOut: c.eventsOut.Load(),
		Dropped: map[string]uint64{}, Rejected: map[Rejection]uint64{},
		ClockSkew: b.clockSkew(),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, v := range c.dropped {
		s.Dropped[k] = v
	}
	for k, v := range c.refused {
		s.Rejected[k] = v
	}
	return s
}
