package relay

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
)

// Broker is a channel layer as this node uses it: the groups that the node is a member of, and the events that arrive
// for them. Methods may be called concurrently.
//
// Optional: [LayerIdentifier], [KeyStore], [Mailbox], [IgnoredTypeLister].
type Broker interface {
	// Start begins to deliver events to sink, in order, until Close. Start does not wait until the layer is reachable:
	// a Broker connects and reconnects by itself.
	Start(sink Sink) error
	// Join makes this node a member of the groups, and returns once the node receives events published to the groups.
	// If ctx ends first, Join returns its error, and the Broker keeps trying.
	Join(ctx context.Context, groups ...string) error
	// Leave ends the membership of the groups, without blocking.
	Leave(groups ...string)
	// Publish sends text to a group, like any emitter of the layer.
	Publish(ctx context.Context, group string, text []byte) (Receipt, error)
	// Health returns the layer's current state.
	Health() Health
	// Close delivers the events that have arrived, leaves all groups, removes this node's keys from the layer and
	// stops. Close returns when ctx ends at the latest.
	Close(ctx context.Context) error
}

// Sink receives events. Optional: [LossSink].
type Sink interface {
	// Deliver takes events in order. Deliver may block, so that a slow node's events stay in the layer instead of in
	// memory. After the return, the caller may reuse the slice, but not the texts.
	Deliver(events []Event)
}

// Receipt is the result of a publication.
type Receipt struct {
	// Members is the number of members (channels, in Channels' words) that the event was sent to.
	Members int
	// OverCapacity is the number of full mailboxes among their channel keys; the event was dropped there.
	OverCapacity int
}

// Health is the state of a channel layer.
type Health struct {
	// OK is true while the layer is reachable and this node's memberships are in place.
	OK bool
	// Detail is a line about the fault, or about a healthy layer.
	Detail string
	// Since is the time at which OK last changed.
	Since time.Time
	// Reconnects counts the connections after the first.
	Reconnects uint64
	// Repairs counts memberships that had disappeared from the layer and were restored.
	Repairs uint64
	// Gaps counts the times at which events may have been missed, in layers that store nothing.
	Gaps uint64
	// Undecodable counts messages that were skipped because they could not be decoded.
	Undecodable uint64
	// RoundTrips counts responses of the layer, RoundTripSeconds the time until they arrived. Commands that were sent
	// together count once.
	RoundTrips       uint64
	RoundTripSeconds float64
	// Ignored counts messages of types that are not for clients.
	Ignored uint64
	// FaultyGroups is the number of groups that cannot be joined although the layer is healthy: their keys hold another
	// type.
	FaultyGroups int
	// Healed counts keys of this node that held another type and were deleted.
	Healed uint64
}

// ErrClosed is returned by methods of closed objects.
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

// ValidPattern reports whether a pattern in the syntax of [path.Match] can match the name of a group.
func ValidPattern(pattern string) bool {
	if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
		return false
	}
	var least strings.Builder // the least name that matches, but for the characters of classes
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; c {
		case '*':
		case '?':
			least.WriteByte('x')
		case '[':
			for i++; pattern[i] != ']'; i++ {
				if pattern[i] == '\\' {
					i++
				}
			}
			least.WriteByte('x')
		case '\\':
			i++
			least.WriteByte(pattern[i])
		default:
			least.WriteByte(c)
		}
	}
	return least.Len() == 0 || ValidGroup(least.String())
}

// CheckPattern returns an error that explains the rules if no group can match a pattern.
func CheckPattern(pattern string) error {
	if !ValidPattern(pattern) {
		return fmt.Errorf("no group has a name such as %q; use 1 to %d ASCII letters, digits, '-', '_' and '.', with * for "+
			"any characters, as in job_events-*", pattern, MaxGroupName)
	}
	return nil
}

// CheckGroup returns an error that explains the rules if name is not a valid group name.
func CheckGroup(name string) error {
	if !ValidGroup(name) {
		return fmt.Errorf("%q is not a group name; use 1 to %d ASCII letters, digits, '-', '_' or '.'", name,
			MaxGroupName)
	}
	return nil
}
