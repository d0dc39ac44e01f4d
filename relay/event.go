package relay

import "time"

// Event is one message for one group.
type Event struct {
	// Group is the full group name, such as "job_events-42".
	Group string
	// Text is the payload exactly as it was published: UTF-8, normally JSON.
	// It is shared between readers and must not be changed.
	Text []byte
	// Source says how the event reached this node.
	Source Source
	// NeedsRelay is set on events that this node's own emitters published and that no
	// backplane has carried yet (AWX 22+ marks them so).
	NeedsRelay bool
	// Sent is when the emitter published the event, zero if unknown.
	Sent time.Time
	// Control is nil for an event that is meant for clients. Otherwise the message is one that
	// nodes exchange about subscriptions, and Text is empty.
	Control *Control
	// Redaction is nil for an event that every subscriber gets as it is.
	Redaction *Redaction

	// Trace follows a sampled event through this node. It is nil for all others, and for all while tracing is off. Events
	// that are made of this one carry it on.
	Trace Trace
}

// Trace follows one sampled event through this node.
type Trace interface {
	// Discarded records that no client gets the event, and why.
	Discarded(reason string)
}

// Discard records in the trace, if there is one, that no client gets the event, and why. It is for an [Interceptor] that
// drops it.
func (ev *Event) Discard(reason string) {
	if ev.Trace != nil {
		ev.Trace.Discarded(reason)
	}
}

// Control is a message of type consumer.subscribe or consumer.unsubscribe, with which a web
// node tells task nodes what its clients want (AWX 22+).
type Control struct {
	// Type is "consumer.subscribe" or "consumer.unsubscribe".
	Type string
	// Groups are the full names of the groups concerned.
	Groups []string
	// Origin is the channel name of the client that subscribed.
	Origin string
}

// Source says how an event reached this node.
type Source uint8

const (
	// FromLayer marks events from this node's channel layer.
	FromLayer Source = iota
	// FromPeer marks events that another node forwarded. They never travel further.
	FromPeer
	// SourceCount is how many sources there are.
	SourceCount
)

// String returns the source's name as metrics show it.
func (s Source) String() string {
	if s == FromPeer {
		return "peer"
	}
	return "layer"
}
