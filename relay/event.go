package relay

import "time"

// Event is one message for one group.
type Event struct {
	// Group is the full group name, such as "job_events-42".
	Group string
	// Text is the payload exactly as it was published: UTF-8, usually JSON. It is shared and must not be changed.
	Text []byte
	// Source is the way by which the event reached this node.
	Source Source
	// NeedsRelay is set on events of this node's own emitters that no backplane has carried yet (AWX 22+ marks them).
	NeedsRelay bool
	// Sent is the time at which the emitter published the event, zero if unknown.
	Sent time.Time
	// Control is nil for an event that is meant for clients. Otherwise the message is one that AWX's nodes exchange
	// about subscriptions, and Text is empty.
	Control *Control
	// Redaction is nil for an event that every subscriber receives as it is.
	Redaction *Redaction
	// Trace follows a sampled event. It is nil for all others, and for all events while tracing is off. An event that
	// is derived from this one keeps it.
	Trace Trace
}

// Trace follows one sampled event through this node. The engine sets it; an [Interceptor] reports through
// [Event.Discard].
type Trace interface {
	// Discarded records that no client gets the event, and the reason.
	Discarded(reason string)
}

// Discard records in the event's trace, if it has one, that no client gets the event. An [Interceptor] calls it for
// events that it drops.
func (ev *Event) Discard(reason string) {
	if ev.Trace != nil {
		ev.Trace.Discarded(reason)
	}
}

// Control is a message of type consumer.subscribe or consumer.unsubscribe, with which a web node announces its clients'
// groups to task nodes (AWX 22+).
type Control struct {
	// Type is "consumer.subscribe" or "consumer.unsubscribe".
	Type string
	// Groups are the full names of the groups concerned.
	Groups []string
	// Origin is the channel name of the client that subscribed.
	Origin string
}

// Source is the way by which an event reached this node.
type Source uint8

const (
	// FromLayer marks events from this node's channel layer.
	FromLayer Source = iota
	// FromPeer marks events that another node forwarded. They are not forwarded again.
	FromPeer
	// SourceCount is the number of sources.
	SourceCount
)

// String returns the source's name in metrics.
func (s Source) String() string {
	if s == FromPeer {
		return "peer"
	}
	return "layer"
}
