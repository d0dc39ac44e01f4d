package relay

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Broker is a channel layer as this node sees it: the groups that it is a member of and
// the events that arrive for them. All methods may be called concurrently.
type Broker interface {
	// Start begins to hand events to sink, in order, until Close. It does not wait for the layer to be
	// reachable: a Broker connects, and connects again, by itself.
	Start(sink Sink) error
	// Join makes this node a member of the groups and returns once events published to
	// them reach it. If ctx ends first its error is returned, and the Broker goes on trying.
	Join(ctx context.Context, groups ...string) error
	// Leave ends the membership. It does not wait.
	Leave(groups ...string)
	// Publish sends text to a group as any emitter of the layer would.
	Publish(ctx context.Context, group string, text []byte) (Receipt, error)
	// Health reports the layer's state now.
	Health() Health
	// Close hands over what has already arrived, leaves all groups, removes what this node
	// keeps in the layer and stops. It returns when ctx ends at the latest.
	Close(ctx context.Context) error
}

// Sink receives events. Deliver may block: that is how a node that falls behind
// leaves events in the layer instead of in its own memory.
type Sink interface {
	Deliver(events []Event)
}

// Receipt says what became of a published event.
type Receipt struct {
	// Members is the number of members (channels, in the layer's words) it was sent to.
	Members int `json:"members"`
	// OverCapacity is the number of receiving channel keys that were full, so that the event was dropped for them.
	OverCapacity int `json:"over_capacity"`
}

// Health is the state of a channel layer.
type Health struct {
	// OK is true while the layer is reachable and this node's membership is in place.
	OK bool `json:"ok"`
	// Detail says in one line what is wrong, or what the layer is.
	Detail string `json:"detail"`
	// Since is when OK last changed.
	Since time.Time `json:"since"`
	// Reconnects counts the connections made after the first one.
	Reconnects uint64 `json:"reconnects"`
	// Repairs counts memberships that had vanished from the layer and were put back.
	Repairs uint64 `json:"repairs"`
	// Gaps counts times in which events may have been missed, in layers that keep nothing.
	Gaps uint64 `json:"gaps"`
	// Undecodable counts messages that were skipped because they could not be understood.
	Undecodable uint64 `json:"undecodable"`
	// RoundTrips counts questions to the layer that were answered, RoundTripSeconds the time until they were. Several commands that were
	// sent together are one.
	RoundTrips       uint64  `json:"round_trips"`
	RoundTripSeconds float64 `json:"round_trip_seconds"`
	// Ignored counts messages of a type that is none of the relay's business.
	Ignored uint64 `json:"ignored"`
	// FaultyGroups is how many groups cannot be joined although the layer is well: their keys hold another type.
	FaultyGroups int `json:"faulty_groups"`
	// Healed counts keys of the relay's own that held another type and were deleted.
	Healed uint64 `json:"healed"`
}

// ErrClosed is returned by what was closed.
var ErrClosed = errors.New("closed")

// MaxGroupName is the greatest length of a group name in bytes; Channels allows fewer than 100.
const MaxGroupName = 99

// ValidGroup reports whether Channels accepts name as a group: 1 to 99 ASCII letters, digits, '-', '_' and '.'.
func ValidGroup(name string) bool {
	if name == "" || len(name) > MaxGroupName {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

// CheckGroup is ValidGroup as an error that says what a name may be.
func CheckGroup(name string) error {
	if !ValidGroup(name) {
		return fmt.Errorf("%q is not a group name: 1 to %d ASCII letters, digits, '-', '_' or '.'", name, MaxGroupName)
	}
	return nil
}
