package hub

import (
	"sync/atomic"

	"github.com/edgerelay/edgerelay/relay"
)

// counters are the counters behind Stats. Each changes at most once per event, job or connection, never per socket.
type counters struct {
	sessions                   atomic.Int64
	byKind                     [relay.KindCount]atomic.Int64
	byDoor                     [relay.DoorCount]atomic.Int64
	openedByDoor               [relay.DoorCount]atomic.Uint64
	opened, rejected, timedOut atomic.Uint64
	expired, renewed           atomic.Uint64
	unverified, revoked        atomic.Uint64
	drained, evictedForMemory  atomic.Uint64
	events                     [relay.SourceCount]atomic.Uint64
	deliveries, bytes, missed  atomic.Uint64
	missedSlow, slow           atomic.Uint64
	fanned                     atomic.Uint64
	unheard, invalid, hidden   atomic.Uint64
	control, tailed            atomic.Uint64

	forms     [relay.FormCount]formCounters
	deflating atomic.Int64 // sessions
}

// Stats is a snapshot of a hub's gauges, and of the counters since New.
type Stats struct {
	// Sessions is the number of open sessions, Groups the number of groups with clients.
	Sessions, Groups int
	// ByKind is the number of sessions by kind of user.
	ByKind map[relay.Kind]int
	// ByDoor is the number of sessions by door, and OpenedByDoor the number of those opened.
	ByDoor       [relay.DoorCount]int
	OpenedByDoor [relay.DoorCount]uint64
	// Opened counts sessions, Rejected counts connections that a limit rejected.
	Opened, Rejected uint64
	// TimedOut counts sessions of silent clients, Expired counts sessions that ended with their login.
	TimedOut, Expired uint64
	// Renewed counts sessions that ended so that the client reconnects with a new token, Unverified counts sessions
	// that ended because the login could not be rechecked within the grace time.
	Renewed, Unverified uint64
	// Revoked counts subscriptions that a recheck ended.
	Revoked uint64
	// Drained counts sessions that a drain evicted, EvictedForMemory counts evictions because memory was short.
	Drained, EvictedForMemory uint64
	// Slow counts sessions of slow consumers that were disconnected.
	Slow uint64
	// EventsFromLayer and EventsFromPeers count the events that arrived.
	EventsFromLayer, EventsFromPeers uint64
	// Deliveries counts events handed to sockets, Bytes the bytes of their frames.
	Deliveries, Bytes uint64
	// Missed counts deliveries that failed because the socket was closing or the queue was full; MissedSlow is the part
	// of slow consumers that were disconnected.
	Missed, MissedSlow uint64
	// Fanned counts events that were queued for at least one client. The other counters are for events without a
	// client: Unheard had no local client, Tailed only an operator's tail, Invalid were not UTF-8, Hidden were for
	// classes without local subscribers, and Control were for other nodes. Plugins drop and add events, so that the sum
	// may differ from the events that arrived.
	Fanned, Unheard, Tailed, Invalid, Hidden, Control uint64
	// Lag is the time from the emitter to the delivery.
	Lag Lag
}

// Stats returns a snapshot.
func (h *Hub) Stats() Stats {
	c := &h.stats
	byKind := make(map[relay.Kind]int, relay.KindCount)
	for k := range relay.KindCount {
		byKind[k] = int(c.byKind[k].Load())
	}
	var byDoor [relay.DoorCount]int
	var openedByDoor [relay.DoorCount]uint64
	for d := range relay.DoorCount {
		byDoor[d], openedByDoor[d] = int(c.byDoor[d].Load()), c.openedByDoor[d].Load()
	}
	return Stats{
		ByDoor: byDoor, OpenedByDoor: openedByDoor,
		ByKind: byKind, Slow: c.slow.Load(), MissedSlow: c.missedSlow.Load(),
		Fanned: c.fanned.Load(), Hidden: c.hidden.Load(), Control: c.control.Load(), Tailed: c.tailed.Load(),
		Lag:      h.lag.snapshot(),
		Sessions: int(c.sessions.Load()), Groups: h.interest.size(),
		Opened: c.opened.Load(), Rejected: c.rejected.Load(),
		Drained: c.drained.Load(), EvictedForMemory: c.evictedForMemory.Load(),
		TimedOut: c.timedOut.Load(), Expired: c.expired.Load(),
		Renewed: c.renewed.Load(), Unverified: c.unverified.Load(), Revoked: c.revoked.Load(),
		EventsFromLayer: c.events[relay.FromLayer].Load(), EventsFromPeers: c.events[relay.FromPeer].Load(),
		Deliveries: c.deliveries.Load(), Bytes: c.bytes.Load(), Missed: c.missed.Load(),
		Unheard: c.unheard.Load(), Invalid: c.invalid.Load(),
	}
}

// Backlog is the bytes queued on their way to clients.
type Backlog struct {
	// Shards is the number of bytes queued for each shard's worker.
	Shards []int
	// Sockets is the number of sockets with queued bytes, SocketBytes their total, MostBytes the longest queue.
	Sockets, SocketBytes, MostBytes int
}

// Backlog returns the current backlog. The cost grows with the number of sessions.
func (h *Hub) Backlog() (b Backlog) {
	for _, s := range h.shards {
		b.Shards = append(b.Shards, s.queue.queued())
		for _, session := range s.all() {
			if n, _ := session.socket.Waiting(); n > 0 {
				b.Sockets++
				b.SocketBytes += n
				b.MostBytes = max(b.MostBytes, n)
			}
		}
	}
	return b
}

// kindIndex returns k, or User if k is not a known kind.
func kindIndex(k relay.Kind) relay.Kind {
	if k < relay.KindCount {
		return k
	}
	return relay.User
}
