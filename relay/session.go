package relay

import (
	"context"
	"net/netip"
)

// Session is one client in the engine, as the client's protocol uses it. Methods may be called concurrently.
type Session interface {
	// Identity is the authenticated user.
	Identity() Identity
	// Address is the client's address as the proxy in front of the relay reports it; the zero Addr if it is unknown.
	Address() netip.Addr
	// Socket is the client's connection.
	Socket() Socket
	// Limits returns the current limits. The caller must not change them.
	Limits() *Limits

	// Authorize decides whether the client may subscribe to the group "<kind>-<item>", and returns its audience class
	// there. The error wraps [ErrDenied] for a denial; any other error is a failure, which denies the group as well.
	// With held, which the caller has from Holds, the authorizer is not asked about a group that it rechecks anyway;
	// plugins classify the client in any case.
	Authorize(ctx context.Context, kind, item string, held bool) (class uint8, err error)
	// Holds reports whether the session is subscribed to exactly these groups, each listed once, while rechecks cover
	// them. A client that repeats its subscription, as one does to test the connection, then costs no question to the
	// authorizer. Such a repetition must be applied with Keep: a recheck may end a subscription in between.
	Holds(groups []string) bool

	// Subscribe replaces all subscriptions. A group that is listed again is ignored. It returns once events of all
	// groups reach the client. If the channel layer does not take the memberships before ctx ends, the subscriptions
	// hold nevertheless, and ctx's error comes with the change. Any other error leaves the subscriptions as they were.
	Subscribe(ctx context.Context, subs []Subscription) (Change, error)
	// Keep is Subscribe for those of subs whose groups the session still has.
	Keep(ctx context.Context, subs []Subscription) (Change, error)

	// Send queues one text frame for this client. It returns false if the connection is closing.
	Send(text []byte) bool
	// SendChange sends the text that encode makes of a change, without the groups that a recheck has ended since.
	SendChange(change Change, encode func(Change) []byte) bool
	// Close removes the session from the engine: its connection has ended. It does not close the socket.
	Close()
}

// Protocol says what the engine itself has to tell clients, in their protocol. Without one, a client only gets a close
// frame.
type Protocol interface {
	// EndLogin tells a client that it is not, or no longer, logged in, and closes its socket.
	EndLogin(socket Socket)
	// EncodeChange returns the text for a client whose subscriptions a recheck has ended.
	EncodeChange(change Change) []byte
}
