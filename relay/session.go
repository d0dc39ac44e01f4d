package relay

import (
	"context"
	"net/netip"
)

// Session is the engine's state of a client, for the client's protocol. Methods may be called concurrently.
type Session interface {
	// Identity is the authenticated user.
	Identity() Identity
	// Address is the client's address as reported by the proxy in front of the relay; the zero Addr if unknown.
	Address() netip.Addr
	// Socket is the client's connection.
	Socket() Socket
	// Limits returns the current limits. The caller must not change them.
	Limits() *Limits

	// Sender identifies the client among those of all nodes. An [Event] with this Sender does not reach the client.
	Sender() string

	// Authorize decides whether the client may subscribe to the group, and returns the subscription with the client's
	// audience class. The error wraps [ErrDenied] for a denial; any other error is a failure, which denies the group as
	// well.
	// With held, the result of Holds, the authorizer is not asked about groups that rechecks cover; plugins classify
	// the client in any case.
	Authorize(ctx context.Context, group string, held bool) (Subscription, error)
	// Holds reports whether the session is subscribed to exactly the given groups, each listed once, while rechecks
	// cover the groups. A repeated subscription, which clients use to test the connection, then costs no request to the
	// authorizer. The repetition must be applied with Keep: a recheck may end a subscription in between.
	Holds(groups []string) bool

	// Subscribe replaces all subscriptions, and returns once events of all groups reach the client. A group that is
	// listed again is ignored. If the channel layer does not take the memberships before ctx ends, the subscriptions
	// hold nevertheless, and ctx's error comes with the change. Any other error leaves the subscriptions as they were.
	Subscribe(ctx context.Context, subs []Subscription) (Change, error)
	// Keep is Subscribe without the groups that the session no longer has.
	Keep(ctx context.Context, subs []Subscription) (Change, error)
	// Amend is Subscribe for a part of the groups: those in leave end, those in subs begin, and the others stay as they
	// are. Change.Current has all groups that the session then has.
	Amend(ctx context.Context, subs []Subscription, leave []string) (Change, error)

	// OptIn makes the client get events with positions, and frames about gaps, in the form of the hub's
	// [PositionProtocol]. It is called before the first Subscribe.
	OptIn()
	// Send queues a text frame for this client, and returns false if the connection is closing.
	Send(text []byte) bool
	// SendChange sends the text that encode makes of a change, without the groups that a recheck has ended since. For a
	// client that has opted in, the groups joined then begin, each with [PositionProtocol.EncodeResumed].
	SendChange(change Change, encode func(Change) []byte) bool
	// Close removes the session from the engine after the end of the connection. Close does not close the socket.
	Close()
}

// Protocol encodes the engine's own messages to clients. Without a Protocol, a client only gets a close frame.
type Protocol interface {
	// EndLogin tells a client that the login does not exist, or has ended, and closes the socket.
	EndLogin(socket Socket)
	// EncodeChange returns the text for a client after a recheck has ended subscriptions.
	EncodeChange(change Change) []byte
}
