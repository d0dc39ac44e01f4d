package relay

import (
	"context"
	"fmt"
	"path"
	"slices"
	"time"
)

// History keeps the recent events of groups as they arrived, before the [Interceptor], so that clients which come back
// get the events that they missed. Methods may be called concurrently.
//
// Optional: [HistoryInspector].
type History interface {
	// Limits returns the bounds of a group's history, and false for a group without history. The engine calls Limits
	// for each event, so it must be quick.
	Limits(group string) (HistoryLimits, bool)
	// Record is called with all events on their way to clients, in the order of each group, before the listeners and
	// the interceptor. Record stores the events of groups with history that the channel layer does not store itself,
	// and sets the position of each event of such a group that has none. It must not block on a network.
	Record(events []Event)
	// Joined is called when this node has become a member of groups, Left when it is no longer one. Events in between
	// reach this node. Neither blocks.
	Joined(groups []string)
	Left(groups []string)
	// Read answers one query for each group, in the order of the queries. All clients that resume in a group at the
	// same time share one query. Read returns when ctx ends at the latest.
	//
	// After Read, nothing is missing between a page and the events that the channel layer delivers: an event of the
	// group that was published before the call is in the page, or is delivered to the Sink after the call, or both.
	Read(ctx context.Context, queries []HistoryQuery) []HistoryPage
	// MarkGap records that events of the loss's groups may be missing, without blocking. No client resumes across the
	// gap. The result is the position of the gap, from which a client that was told can resume.
	MarkGap(l Loss) Position
	// Close stops the history, after it has stored the recorded events. Close returns when ctx ends at the latest.
	Close(ctx context.Context) error
}

// HistoryQuery asks for recent events of a group.
type HistoryQuery struct {
	Group string
	// After are the positions from which clients resume, without parts.
	After []Position
	// Latest is the greatest number of last events that a client asks for, 0 if none does.
	Latest int
	// AcrossGaps is set if the caller knows which events it needs: gaps do not matter, and the page has the events of
	// the positions, too.
	AcrossGaps bool
}

// HistoryPage is the answer to a [HistoryQuery].
type HistoryPage struct {
	// Events are the events of the group in the order of the history, with their positions, from [HistorySlack] before
	// the first of the positions from which a client can resume, and at least the latest. Source is FromHistory.
	Events []Event
	// Resumable tells for each of the query's positions whether the events behind it are complete: nil, or a reason
	// that wraps [ErrNotRecovered].
	Resumable []error
	// First has, for each of the query's positions from which a client can resume, the index in Events of the first
	// event to replay: that of the position, if it is an event, since plugins may have made several texts of it. Texts
	// that the client has are left out later. If First is nil, a replay begins with the first event that is at most
	// [HistorySlack] older than the position.
	First []int
	// Head is the position from which a client that gets all of Events, or none, can resume later. The history makes an
	// entry if it has none.
	Head Position
	// Err is set if the history could not be read: no client can resume.
	Err error
}

// NotRecovered is a reason for which a client cannot resume. Clients see the text as a code.
type NotRecovered string

// The reasons for which a client cannot resume.
const (
	// NotRecoveredUnknown: the history does not have the position, or no longer.
	NotRecoveredUnknown NotRecovered = "unknown_position"
	// NotRecoveredGap: events behind the position may be missing.
	NotRecoveredGap NotRecovered = "gap"
	// NotRecoveredOff: the group has no history.
	NotRecoveredOff NotRecovered = "no_history"
	// NotRecoveredUnavailable: the history cannot be read at the moment.
	NotRecoveredUnavailable NotRecovered = "unavailable"
	// NotRecoveredPeers: a link to a peer is down that may bring events of the group.
	NotRecoveredPeers NotRecovered = "peer_link"
	// NotRecoveredTooMuch: more events than a replay may have.
	NotRecoveredTooMuch NotRecovered = "too_much"
)

// ErrNotRecovered is wrapped by, and equal to, no reason in particular: errors.Is(err, ErrNotRecovered) is true for
// each [NotRecovered].
const ErrNotRecovered NotRecovered = "not_recovered"

// Error returns the code.
func (r NotRecovered) Error() string { return string(r) }

// Is reports whether target is [ErrNotRecovered] or the same reason.
func (r NotRecovered) Is(target error) bool { return target == ErrNotRecovered || target == r }

// HistoryLimits bound the history of a group. Each bound is above 0.
type HistoryLimits struct {
	// Count is the greatest number of events, Bytes the greatest number of bytes of their texts.
	Count, Bytes int
	// Age is the greatest age of an event. This node stays a member of the group for as long after the last client has
	// left.
	Age time.Duration
}

// DefaultHistoryLimits are the bounds that apply where none are configured.
var DefaultHistoryLimits = HistoryLimits{Count: 1000, Bytes: 1 << 20, Age: 5 * time.Minute}

// HistoryRule gives the groups that match a pattern a history.
type HistoryRule struct {
	// Pattern is a group's name, in which "*" stands for any run of characters.
	Pattern string
	HistoryLimits
}

// HistoryPolicy decides which groups have a history. The zero HistoryPolicy gives none to any group.
type HistoryPolicy struct {
	// Rules are in order of preference: the first that matches applies.
	Rules []HistoryRule
	// Exempt are groups without a history, whatever the rules: groups that clients cannot subscribe to.
	Exempt []string
	// Key is the secret from which the marks of positions are derived, for nodes with a Redis each that a backplane
	// joins. If empty, nodes that share a Redis agree on a random key there.
	Key string
}

// Validate checks the rules.
func (p HistoryPolicy) Validate() error {
	for _, r := range p.Rules {
		if _, err := path.Match(r.Pattern, ""); err != nil || r.Pattern == "" {
			return fmt.Errorf("invalid pattern %q; write a group's name, in which * stands for any characters", r.Pattern)
		}
		if r.Count <= 0 || r.Bytes <= 0 || r.Age <= 0 {
			return fmt.Errorf("pattern %s: count, size and age must be above 0", r.Pattern)
		}
	}
	return nil
}

// Limits returns the bounds of a group's history, and false for a group without history.
func (p HistoryPolicy) Limits(group string) (HistoryLimits, bool) {
	if slices.Contains(p.Exempt, group) {
		return HistoryLimits{}, false
	}
	for i := range p.Rules {
		if ok, err := path.Match(p.Rules[i].Pattern, group); ok && err == nil {
			return p.Rules[i].HistoryLimits, true
		}
	}
	return HistoryLimits{}, false
}

// Resume is a client's wish to get earlier events of a group at the beginning of a subscription.
type Resume struct {
	// After are positions of events that the client has: the last one is the position to resume from, and none of them
	// is sent again. Empty: the client does not resume. The zero Position stands for a token that could not be read: no
	// history has it.
	After []Position
	// Latest asks for at most this number of last events, in place of those after a position.
	Latest int
}

// Resumed is the beginning of a subscription of a client that gets positions.
type Resumed struct {
	Group string
	// Asked is set if the client asked to resume.
	Asked bool
	// Reason is nil if the client gets every event after its position.
	Reason error
	// Events is the number of events that follow, before the live ones.
	Events int
	// Position is the position from which the client can resume if it gets no further event; zero without history.
	Position Position
}

// Gap tells clients that get positions about lost events.
type Gap struct {
	// Groups are the groups of the client that are concerned; empty: all its groups.
	Groups []string
	Cause  LossCause
	// Events is the number of lost events, 0 if unknown.
	Events int
	// Position is a position before the gap, from which the client can get the lost events by another subscription;
	// zero if the history lacks them.
	Position Position
}
