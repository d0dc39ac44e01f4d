package awx

import (
	"log/slog"
	"sync/atomic"

	"github.com/edgerelay/edgerelay/relay/hub"
)

// Shared is what all clients of a node have in common.
type Shared struct {
	Hub   *hub.Hub
	Log   *slog.Logger
	Stats ClientStats
}

// ClientStats counts what clients send.
type ClientStats struct {
	// Taken messages were answered, Refused ones with an error, TooMany went beyond the rate, and Flooded clients were closed over that.
	Taken, Refused, TooMany, Flooded atomic.Uint64
	// Allowed, Denied and Failed count the groups that clients asked for, by the decision.
	// OtherUser are those denied because they are another user's.
	Allowed, Denied, Failed, OtherUser atomic.Uint64
}
