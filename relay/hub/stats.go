package hub

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"

	"github.com/edgerelay/edgerelay/relay"
)

// counters are the hub's own; each is changed once per event or connection at most, never per socket and event.
type counters struct {
	sessions                         atomic.Int64
	byKind                           [relay.KindCount]atomic.Int64
	opened, refused, silent, expired atomic.Uint64
	renewed, unverified, revoked     atomic.Uint64
	drained, shed                    atomic.Uint64
	events                           [relay.SourceCount]atomic.Uint64
	deliveries, bytes, missed        atomic.Uint64
	missedSlow, slow                 atomic.Uint64
	fanned                           atomic.Uint64
	unheard, invalid, hidden         atomic.Uint64
	control, tailed                  atomic.Uint64
}

// Stats is a snapshot of what a hub holds and has done since it was made.
type Stats struct {
	// Sessions is the number of open sessions, Groups of groups with a local subscription.
	Sessions, Groups int
	// ByKind is how many sessions each kind of user has.
	ByKind map[relay.Kind]int
	// Opened counts sessions ever opened; Refused, connections refused by a limit.
	Opened, Refused uint64
	// Silent counts sessions ended because nothing came from the client, Expired because its login ended.
	Silent, Expired uint64
	// Renewed counts sessions ended so that the client connects with a new token, Unverified because their login could
	// not be checked for longer than the grace time.
	Renewed, Unverified uint64
	// Revoked counts subscriptions that a recheck ended.
	Revoked uint64
	// Drained counts sessions that were sent to other nodes, Shed those ended because memory was short.
	Drained, Shed uint64
	// Slow counts sessions ended because the client read too slowly.
	Slow uint64
	// EventsFromLayer and EventsFromPeers count events in, by where they came from.
	EventsFromLayer, EventsFromPeers uint64
	// Deliveries and Bytes count events handed to sockets, and the bytes of their frames.
	Deliveries, Bytes uint64
	// Missed counts deliveries that failed because the socket was closing or its queue was full; MissedSlow those of clients that
	// were closed because they read too slowly.
	Missed, MissedSlow uint64
	// Fanned counts events that were queued for one client at least. All others are counted by what became of them: Unheard had
	// no local client, Tailed had an operator's tail alone, Invalid were not UTF-8, Hidden were for classes of
	// subscribers that are not here, and Control are for other nodes only. With plugins, which drop and add events,
	// these do not sum up to the events that came in.
	Fanned, Unheard, Tailed, Invalid, Hidden, Control uint64
	// Lag is how long deliveries took from the emitter on.
	Lag Lag
}

// Stats returns the hub's figures now.
func (h *Hub) Stats() Stats {
	c := &h.stats
	byKind := make(map[relay.Kind]int, relay.KindCount)
	for k := range relay.KindCount {
		byKind[k] = int(c.byKind[k].Load())
	}
	return Stats{
		ByKind: byKind, Slow: c.slow.Load(), MissedSlow: c.missedSlow.Load(),
		Fanned: c.fanned.Load(), Hidden: c.hidden.Load(), Control: c.control.Load(), Tailed: c.tailed.Load(), Lag: h.lag.snapshot(),
		Sessions: int(c.sessions.Load()), Groups: h.interest.size(),
		Opened: c.opened.Load(), Refused: c.refused.Load(),
		Drained: c.drained.Load(), Shed: c.shed.Load(),
		Silent: c.silent.Load(), Expired: c.expired.Load(),
		Renewed: c.renewed.Load(), Unverified: c.unverified.Load(), Revoked: c.revoked.Load(),
		EventsFromLayer: c.events[relay.FromLayer].Load(), EventsFromPeers: c.events[relay.FromPeer].Load(),
		Deliveries: c.deliveries.Load(), Bytes: c.bytes.Load(), Missed: c.missed.Load(),
		Unheard: c.unheard.Load(), Invalid: c.invalid.Load(),
	}
}

// miss counts events that a session did not get, and notes the first time that this is because its client reads too slowly. It is
// called by the worker of the session's shard.
func (h *Hub) miss(s *Session, events int) {
	h.stats.missed.Add(uint64(events))
	if _, slow := s.socket.Waiting(); !slow {
		return
	}
	h.stats.missedSlow.Add(uint64(events))
	h.losses.events[relay.LossSlowReader].Add(uint64(events))
	if s.slow {
		return
	}
	s.slow = true
	h.stats.slow.Add(1)
	h.losses.times[relay.LossSlowReader].Add(1)
	go h.log.Info("a client reads too slowly; its websocket is closed", // not here: a log may block
		"user", s.identity.Name, "address", relay.AddressText(s.address), "queue_bytes", h.Limits().QueuePerConnection)
}

// missJobs counts events that the clients of a shard did not get because the hub is closing.
func (h *Hub) missJobs(s *shard, jobs []job) {
	s.round.Lock()
	defer s.round.Unlock()
	for i := range jobs {
		h.stats.missed.Add(uint64(jobs[i].count * len(jobs[i].audience.subs)))
	}
}

// Backlog is what waits on its way to the clients.
type Backlog struct {
	// Shards is how many bytes of frames wait for each shard's worker.
	Shards []int
	// Sockets is how many sockets were full, and SocketBytes what waits for them, MostBytes for the one with the most.
	Sockets, SocketBytes, MostBytes int
}

// Backlog looks through all sessions for those that read slowly.
func (h *Hub) Backlog() (b Backlog) {
	for _, s := range h.shards {
		b.Shards = append(b.Shards, s.queue.waiting())
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

// closedDoor is the authorizer of a hub that has none.
type closedDoor struct{}

var errNoAuthorizer = errors.New("no way to authenticate is configured")

func (closedDoor) Authenticate(*http.Request) (relay.Identity, error) {
	return relay.Identity{}, errNoAuthorizer
}

func (closedDoor) Authorize(context.Context, relay.Identity, string, string) error {
	return errNoAuthorizer
}

func (closedDoor) Recheck(context.Context, relay.Identity) error { return errNoAuthorizer }

// kindIndex is k, or User where that is no kind.
func kindIndex(k relay.Kind) relay.Kind {
	if k < relay.KindCount {
		return k
	}
	return relay.User
}
