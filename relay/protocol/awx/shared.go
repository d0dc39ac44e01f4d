package awx

import (
	"log/slog"
	"sync/atomic"
)

// Shared holds the dependencies that all clients of a node share.
type Shared struct {
	Log   *slog.Logger
	Stats ClientStats
}

// ClientStats counts the messages of all clients and the groups in them.
type ClientStats struct {
	// Accepted messages were processed, Rejected ones answered with an error. RateLimited ones exceeded the rate.
	Accepted, Rejected, RateLimited atomic.Uint64
	// Flooded counts the clients that were disconnected because they exceeded the rate by far.
	Flooded atomic.Uint64
	// Allowed, Denied and Failed count requested groups by decision. OtherUser counts denied groups that belong to
	// another user.
	Allowed, Denied, Failed, OtherUser atomic.Uint64
}
