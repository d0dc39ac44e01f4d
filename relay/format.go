package relay

// Format is the form in which the clients of a route get events and the engine's own messages, in place of the hub's
// [Protocol]. The clients of a group that have the same Format share the encoded frames. A Format is comparable, such
// as a pointer; it may change its behavior while clients are connected. Methods may be called concurrently.
//
// Optional: [HistoryFormat], [SubscriptionFormat], [RightsFormat].
type Format interface {
	// Protocol tells clients about the end of their login or of subscriptions. EncodeChange may return nil: the client
	// gets no message.
	Protocol
	// AppendEvent appends the payload of the frame for an event to dst. text is ev.Text, or a plugin's variant. It is
	// called once for all clients of the group, or of an audience class, with this Format. With [NoFrame], which leaves
	// dst as it was, the clients get nothing.
	AppendEvent(dst []byte, ev *Event, text []byte) (payload []byte, frame Frame)
}

// HistoryFormat is a [Format] for clients that get earlier events of their groups, or positions. If absent, clients
// begin with the next event: [Session.OptIn] has no effect.
type HistoryFormat interface {
	// The methods are those of [PositionProtocol]. A nil text sends no frame.
	EncodeResumed(r Resumed) []byte
	EncodeGap(g Gap) []byte
	EncodeWithheld(group string, position Position) []byte
}

// SubscriptionFormat is a [Format] that follows the subscriptions of its clients. If absent, no part does.
type SubscriptionFormat interface {
	// Subscribed is called with the groups that a session has entered, and Unsubscribed with those that it has left, for
	// whatever reason. Calls for one session do not overlap. They must not block, and may only ask the session for its
	// Identity, Address and Sender.
	Subscribed(s Session, groups []string)
	Unsubscribed(s Session, groups []string)
}

// RightsFormat is a [Format] whose clients have rights beyond the permission for each group. If absent, a client stays
// connected as long as it is logged in and has a group.
type RightsFormat interface {
	// SameRights reports whether a client whose Identity had the profile before may stay as it is, now that the user has
	// another one: its groups, as far as they are granted, would be the same. Otherwise, the client must reconnect.
	SameRights(before, now string) bool
	// NeedsAllGroups reports whether a client that loses one of its groups must reconnect.
	NeedsAllGroups() bool
}

// Frame is the kind of a frame.
type Frame uint8

// The kinds of frames.
const (
	NoFrame Frame = iota
	TextFrame
	BinaryFrame
	// ClientFrame marks a payload that is no frame: each client's Socket, a [FrameReceiver], decides what the client
	// gets. Clients without a FrameReceiver get nothing.
	ClientFrame
)

// FrameReceiver is a [Socket] that handles the payloads of a [ClientFrame] itself.
type FrameReceiver interface {
	// Receive handles a payload, which is shared and must not be changed, in the order of the client's frames. It does
	// not block, and returns false as Send does.
	Receive(payload []byte, limit int) bool
}
