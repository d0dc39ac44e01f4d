package relay

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
)

// counters are the hub's own; each is changed once per event or connection at most, never per socket and event.
type counters struct {
	sessions                         atomic.Int64
	opened, refused, silent, expired atomic.Uint64
	events                           [sources]atomic.Uint64
	deliveries, bytes, missed        atomic.Uint64
	unheard, invalid                 atomic.Uint64
}

// Stats is a snapshot of what a hub holds and has done since it was made.
type Stats struct {
	// Sessions is the number of open sessions, Groups of groups with a local subscription.
	Sessions, Groups int
	// Opened counts sessions ever opened; Refused, connections refused by a limit.
	Opened, Refused uint64
	// Silent counts sessions ended because nothing came from the client, Expired because its login ended.
	Silent, Expired uint64
	// EventsFromLayer and EventsFromPeers count events in, by where they came from.
	EventsFromLayer, EventsFromPeers uint64
	// Deliveries and Bytes count events handed to sockets, and the bytes of their frames.
	Deliveries, Bytes uint64
	// Missed counts deliveries that failed because the socket was closing or its queue was full.
	Missed uint64
	// Unheard counts events without a local client, Invalid those whose text is not UTF-8. Neither was delivered.
	Unheard, Invalid uint64
}

// Stats returns the hub's figures now.
func (h *Hub) Stats() Stats {
	c := &h.stats
	return Stats{
		Sessions: int(c.sessions.Load()), Groups: h.interest.size(),
		Opened: c.opened.Load(), Refused: c.refused.Load(),
		Silent: c.silent.Load(), Expired: c.expired.Load(),
		EventsFromLayer: c.events[FromLayer].Load(), EventsFromPeers: c.events[FromPeer].Load(),
		Deliveries: c.deliveries.Load(), Bytes: c.bytes.Load(), Missed: c.missed.Load(),
		Unheard: c.unheard.Load(), Invalid: c.invalid.Load(),
	}
}

// closedDoor is the authorizer of a hub that has none.
type closedDoor struct{}

var errNoAuthorizer = errors.New("no way to authenticate is configured")

func (closedDoor) Authenticate(*http.Request) (Identity, error) {
	return Identity{}, errNoAuthorizer
}

func (closedDoor) Authorize(context.Context, Identity, string, string) error { return errNoAuthorizer }

func (closedDoor) Recheck(context.Context, Identity) error { return errNoAuthorizer }
