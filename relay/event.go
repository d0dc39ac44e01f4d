package relay

import "time"

// Event is a message for a group.
type Event struct {
	// Group is the full group name, such as "job_events-42".
	Group string
	// Type is the message type, such as "chat.message"; empty for internal.message, the type of AWX's events. Only
	// clients of a [Format] get events with a Type.
	Type string
	// Text is the payload exactly as published: UTF-8, usually JSON. For an event with a Type, Text is the whole message
	// as a JSON object with its members in order, "type" among them, in the form of Python's json.dumps; bytes are
	// base64. The bytes are shared and must not be changed.
	Text []byte
	// Sender is the client that published the event and does not get it, see [Session.Sender]; usually empty.
	Sender string
	// Source is the way by which the event reached this node.
	Source Source
	// NeedsRelay is set on events of this node's own emitters that no backplane has carried yet (AWX 22+ marks them).
	NeedsRelay bool
	// Foreign is set on events that a [History] returns and that came from a peer. No backplane sends them to peers.
	Foreign bool
	// Adopted tells whether the event is from the mailbox of a node that has died.
	Adopted Adoption
	// Sent is the time at which the emitter published the event, by the emitter's clock; zero if unknown.
	Sent time.Time
	// ClockBehind is the lag of the emitter's clock behind this node's, as far as it is known, and negative if that
	// clock is ahead.
	ClockBehind time.Duration
	// Position is the event's place in the history of its group, zero if the group has none.
	Position Position
	// Control is nil for an event that is meant for clients. Otherwise the message is from AWX's nodes, about
	// subscriptions, and Text is empty.
	Control *Control
	// Redaction is nil for an event that every subscriber receives unchanged.
	Redaction *Redaction
	// Trace follows a sampled event. All other events have nil, and so have all events while tracing is off. A derived
	// event keeps the Trace of its source.
	Trace Trace
}

// Published returns the time of publication by this node's clock, as far as both clocks are known; zero if it is
// unknown.
func (ev *Event) Published() time.Time {
	if ev.Sent.IsZero() {
		return time.Time{}
	}
	return ev.Sent.Add(ev.ClockBehind)
}

// Trace follows a sampled event through this node. The engine sets the Trace; an [Interceptor] reports through
// [Event.Discard].
type Trace interface {
	// Discarded records that no client gets the event, and the reason.
	Discarded(reason string)
}

// Discard records in the trace of a sampled event that no client gets the event. An [Interceptor] calls Discard for
// dropped events.
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

// Adoption is how far a node that died had come with an event that another node has found in its mailbox.
type Adoption uint8

const (
	// NotAdopted: the event reached this node in its own mailbox.
	NotAdopted Adoption = iota
	// AdoptedUnread: the dead node had not taken the event.
	AdoptedUnread
	// AdoptedTaken: the dead node had taken the event, and may have sent it to its peers.
	AdoptedTaken
)

// Source is the way by which an event reached this node.
type Source uint8

const (
	// FromLayer marks events from this node's channel layer.
	FromLayer Source = iota
	// FromPeer marks events that another node forwarded. They are not forwarded again.
	FromPeer
	// FromHistory marks events that a client missed and gets now. Only an [Interceptor] that processes a replay sees
	// them.
	FromHistory
	// SourceCount is the number of sources.
	SourceCount
)

// String returns the source's name in metrics.
func (s Source) String() string {
	switch s {
	case FromPeer:
		return "peer"
	case FromHistory:
		return "history"
	}
	return "layer"
}
