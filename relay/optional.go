package relay

import (
	"context"
	"time"
)

// This file has all optional interfaces: those that a Broker, a Sink, a Backplane, an Authorizer or the credentials of
// an Identity may implement besides the required methods. The engine and its surroundings look for them with a type
// assertion. Each comment states what their absence means.

// LayerIdentifier is a [Broker] whose channel layer has an identity. Without it, the backplane treats the layer as this
// node's own and exchanges events with all peers.
type LayerIdentifier interface {
	// LayerID returns the same text on all nodes that see the same events, whatever URL they use.
	LayerID(ctx context.Context) (string, error)
}

// KeyStore is a [Broker] whose channel layer can store values beside the events. Without it, the metrics that AWX nodes
// send over the backplane are not stored.
type KeyStore interface {
	// Set stores a value under a key for a lifetime.
	Set(ctx context.Context, key, value string, lifetime time.Duration) error
}

// Mailbox is a [Broker] that reads from a bounded queue in the channel layer. Without it, doctor does not report how
// full the queue was.
type Mailbox interface {
	// Peak is the greatest number of messages that were ever queued for this node; emitters drop messages at Capacity.
	Peak() int
	Capacity() int
}

// IgnoredTypeLister is a [Broker] that records which types of messages it ignores. Without it, doctor does not list
// them.
type IgnoredTypeLister interface {
	// IgnoredTypes returns the types of messages that arrived for this node's groups but are not for clients.
	IgnoredTypes() []string
}

// LossSink is a [Sink] that records losses. Without it, losses of the channel layer stay unknown.
type LossSink interface {
	// Lost counts and logs a loss, and tells the clients concerned. It does not block. The groups must not be changed
	// afterwards.
	Lost(l Loss)
}

// ReportLoss reports a loss if the sink is a [LossSink].
func ReportLoss(to Sink, l Loss) {
	if s, ok := to.(LossSink); ok {
		s.Lost(l)
	}
}

// LossForwarder is a [Backplane] that forwards losses. Without it, clients of peers are not told of events that were
// lost before they reached this node.
type LossForwarder interface {
	// ForwardLoss reports events to peers that were lost in this node's channel layer. It does not block.
	ForwardLoss(l Loss)
}

// GroupRechecker is an [Authorizer] whose decisions about groups may change while clients are subscribed. Without it, a
// decision holds for as long as the subscription.
type GroupRechecker interface {
	// Rechecks reports whether the right to see a group can change, so that RecheckGroup is called once in a recheck
	// interval.
	Rechecks(group string) bool
	// RecheckGroup returns nil if the user may still see a group. [ErrDenied] ends the subscription; after any other
	// error it stays.
	RecheckGroup(ctx context.Context, id Identity, group string) error
}

// Successor is an [Authorizer] that takes state over from its predecessor when the configuration changes. Without it,
// the authorizer starts empty.
type Successor interface {
	// Succeed is called before the authorizer becomes current, with the one that is current.
	Succeed(before Authorizer)
}

// ConcurrentRechecker is an [Authorizer] that bounds the concurrent calls of Recheck. Without it, there are at most 8.
type ConcurrentRechecker interface {
	// Concurrency is the greatest number of logins to recheck at once.
	Concurrency() int
}

// SharedLogin is implemented by [Identity.Credentials] that several sessions may share. Without it, each session is
// rechecked on its own.
type SharedLogin interface {
	// LoginKey is equal for sessions of the same login, which one call of Recheck covers. Empty: the session is on its
	// own.
	LoginKey() string
}

// ExpiringLogin is implemented by [Identity.Credentials] that expire. Without it, the login is rechecked at the recheck
// interval only.
type ExpiringLogin interface {
	// Until is the time at which the login is rechecked in any case; zero: never.
	Until() time.Time
}
