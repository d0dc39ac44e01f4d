package relay

import (
	"context"
	"time"
)

// This file has all optional interfaces of a Broker, a Sink, a Backplane, an Authorizer, an Interceptor and the
// credentials of an Identity. The engine and its surroundings test for each interface with a type assertion. Each
// comment states the effect of a missing interface.

// LayerIdentifier is a [Broker] whose channel layer has an identity. If absent, the backplane treats the layer as this
// node's own and exchanges events with all peers.
type LayerIdentifier interface {
	// LayerID returns the same text on all nodes that see the same events, whatever URL they use.
	LayerID(ctx context.Context) (string, error)
}

// KeyStore is a [Broker] whose channel layer can store values beside the events. If absent, the metrics that AWX nodes
// send over the backplane are not stored.
type KeyStore interface {
	// Set stores a value under a key for a lifetime.
	Set(ctx context.Context, key, value string, lifetime time.Duration) error
}

// ScriptRunner is a [Broker] whose channel layer is in Redis and runs Lua scripts on keys of the relay's own, beside
// the events. If absent, state that nodes share, such as presence, is kept in the process.
type ScriptRunner interface {
	// Shards is the number of places that hold keys, and Shard the place of a group. All nodes of the layer agree.
	Shards() int
	Shard(group string) int
	// KeyPrefix begins the keys of a shard for a purpose, such as "presence". A script uses keys of one shard.
	KeyPrefix(shard int, name string) string
	// RunScript runs a script. In the reply, integers are int64, texts string, lists []any, and a nil is nil.
	RunScript(ctx context.Context, shard int, script string, keys []string, args ...any) (any, error)
}

// ScriptPipeliner is a [ScriptRunner] that runs a script many times in one round trip. If absent, the shared state of
// plugins is kept in the process.
type ScriptPipeliner interface {
	ScriptRunner
	// RunScripts runs a script once for each call, in order, on one connection, and returns the replies in the same order.
	// All keys are keys of the shard. No call is repeated after it may have had an effect.
	RunScripts(ctx context.Context, shard int, script string, calls []ScriptCall) []ScriptReply
}

// ScriptCall has the keys and arguments of one run of a script.
type ScriptCall struct {
	Keys []string
	Args []any
}

// ScriptReply is the reply to a [ScriptCall], with the types of [ScriptRunner].
type ScriptReply struct {
	Value any
	// Err leaves open whether the call had an effect, unless NotRun is set: then it had none, and will have none.
	Err    error
	NotRun bool
}

// Mailbox is a [Broker] that reads from a bounded queue in the channel layer. If absent, doctor does not report how
// full the queue was.
type Mailbox interface {
	// Peak is the greatest number of messages that were ever queued for this node; emitters drop messages at Capacity.
	Peak() int
	Capacity() int
}

// IgnoredTypeLister is a [Broker] that records the types of ignored messages. If absent, doctor does not list the
// types.
type IgnoredTypeLister interface {
	// IgnoredTypes returns the types of messages that arrived for this node's groups but are not for clients.
	IgnoredTypes() []string
}

// MessageReceiver is a [Broker] that can deliver messages of any type. If absent, clients of a [Format] get events of
// the type internal.message only.
type MessageReceiver interface {
	// ReceiveMessages turns the delivery of messages with any type on or off; see [Event.Type]. Initially it is off.
	ReceiveMessages(on bool)
}

// MessagePublisher is a [Broker] that can publish messages of any type. If absent, messages with a type cannot be
// published.
type MessagePublisher interface {
	// PublishMessage sends a message to its group, like any emitter of the layer.
	PublishMessage(ctx context.Context, m Message) (Receipt, error)
}

// LossSink is a [Sink] that records losses. If absent, losses of the channel layer stay unknown.
type LossSink interface {
	// Lost counts and logs a loss, and tells the clients concerned, without blocking. The groups must not be changed
	// afterwards.
	Lost(l Loss)
}

// ReportLoss reports a loss if the sink is a [LossSink].
func ReportLoss(to Sink, l Loss) {
	if s, ok := to.(LossSink); ok {
		s.Lost(l)
	}
}

// LossForwarder is a [Backplane] that forwards losses. If absent, clients of peers do not learn about events that were
// lost before this node.
type LossForwarder interface {
	// ForwardLoss tells peers about events that were lost in this node's channel layer, without blocking.
	ForwardLoss(l Loss)
}

// GroupRechecker is an [Authorizer] whose decisions about groups may change while clients are subscribed. If absent, a
// decision holds for as long as the subscription.
type GroupRechecker interface {
	// Rechecks reports whether the right to see a group can change, so that RecheckGroup is called once per recheck
	// interval.
	Rechecks(group string) bool
	// RecheckGroup returns nil if the user may still see a group. [ErrDenied] ends the subscription; after any other
	// error the subscription stays.
	RecheckGroup(ctx context.Context, id Identity, group string) error
}

// Reclassifier is an [Interceptor] whose rules for classes may change while clients are subscribed. The engine is told
// of a change by its Reclassify, and then classifies the subscriptions of an earlier generation again. If absent, a
// class holds for as long as the subscription.
type Reclassifier interface {
	// Generation returns the current generation of a group's classes. A [Classification] of another generation is
	// outdated.
	Generation(group string) uint64
}

// HistoryKeeper is a [Broker] whose channel layer keeps the history itself. If absent, each node keeps a ring.
type HistoryKeeper interface {
	// KeepHistory returns the layer's history under a policy. It may be called again with another policy; the result of
	// the last call is current. With no rules, the layer keeps nothing, and KeepHistory returns nil.
	KeepHistory(p HistoryPolicy) (History, error)
}

// HistoryInspector is a [History] that can describe itself. If absent, operators do not see what is kept.
type HistoryInspector interface {
	// InspectHistory describes a group's history. The error is that of the channel layer.
	InspectHistory(ctx context.Context, group string) (HistoryInfo, error)
	// HistoryStats describes the whole history, without asking the channel layer.
	HistoryStats() HistoryStats
}

// HistoryInfo is an operator's view of a group's history.
type HistoryInfo struct {
	// Events is the number of events, Gaps the number of gaps, and Bytes the memory that both need, as far as known.
	Events, Gaps int
	Bytes        int64
	// Oldest and Newest are the times of the first and the last event; zero if there is none.
	Oldest, Newest time.Time
}

// HistoryStats counts the work of a history.
type HistoryStats struct {
	// Kind is "ring", "sorted_set" or "stream".
	Kind string
	// Groups is the number of groups with entries, and Bytes their memory, as far as this node knows.
	Groups int
	Bytes  int64
	// Recorded counts stored events, Trimmed removed ones, Reads the answered queries, Failed the writes and queries that
	// failed, Adopted the unread messages of dead nodes that were stored, Gaps the gaps, and Evicted the groups whose
	// history ended because all histories together were too large.
	Recorded, Trimmed, Reads, Failed, Adopted, Gaps, Evicted uint64
	// Trouble describes in a line why the history is not kept at the moment; empty if it is.
	Trouble string
}

// Replayer is an [Interceptor] that can process events of the history for clients that resume. If absent, no client
// resumes while the interceptor is set.
type Replayer interface {
	// Replay returns the texts for clients of events of one group of the history, in order, as Intercept does, each with
	// the position of its event. Events for other groups are dropped. Withheld are the positions of events that a plugin
	// failed to process. Replay may be called with any number of events; it returns when ctx ends at the latest. After
	// an error, no event may reach a client. See [Redaction.Failed] for texts that are rendered by class.
	Replay(ctx context.Context, events []Event) (out []Event, withheld []Position, err error)
}

// PositionProtocol is a [Protocol] for clients that have opted in to positions. If absent, no client can.
type PositionProtocol interface {
	// AppendEvent appends the text of a frame with an event: its group, position and time, and text, which is ev.Text or
	// a plugin's variant.
	AppendEvent(dst []byte, ev *Event, text []byte) []byte
	// EncodeResumed returns the text that begins a subscription.
	EncodeResumed(r Resumed) []byte
	// EncodeGap returns the text for clients that have missed events.
	EncodeGap(g Gap) []byte
	// EncodeWithheld returns the text for clients that do not get an event because a plugin failed.
	EncodeWithheld(group string, position Position) []byte
}

// GapKnower is a [Backplane] that knows whether events from peers may be missing at the moment. If absent, or without a
// backplane, none are.
type GapKnower interface {
	// Incomplete reports whether a link is down over which events of the group may have been missed that this node has
	// not reported as lost yet.
	Incomplete(group string) bool
}

// HistoryHolder is a [Node] with a history. If absent, peers do not get events of the history that they missed while no
// link was up.
type HistoryHolder interface {
	// History returns the current history, nil if there is none.
	History() History
}

// Successor is an [Authorizer] that takes state over from its predecessor when the configuration changes. If absent,
// the authorizer starts empty.
type Successor interface {
	// Succeed is called before the authorizer becomes current, with the current authorizer.
	Succeed(before Authorizer)
}

// ConcurrentRechecker is an [Authorizer] that bounds the concurrent calls of Recheck. If absent, the bound is 8.
type ConcurrentRechecker interface {
	// Concurrency is the greatest number of logins to recheck at once.
	Concurrency() int
}

// TokenAuthorizer is an [Authorizer] that takes tokens from messages of clients. If absent, the messages of clients
// have no tokens.
type TokenAuthorizer interface {
	// AuthenticateToken identifies a client by a token, as Authenticate does by a handshake.
	AuthenticateToken(ctx context.Context, token string) (Identity, error)
	// Refresh replaces the token of a connected client. [ErrUnauthenticated] means that the token is invalid or another
	// user's; after any error the client keeps the old token.
	Refresh(ctx context.Context, id Identity, token string) error
}

// KindComparer is an [Authorizer] that can tell whether its predecessor's clients need a recheck at once. If absent,
// they do if the predecessor is of another type.
type KindComparer interface {
	// SameKind reports whether the clients that before has authenticated can wait for their next recheck.
	SameKind(before Authorizer) bool
}

// SharedLogin is implemented by [Identity.Credentials] that several sessions may share. If absent, each session is
// rechecked separately.
type SharedLogin interface {
	// LoginKey is equal for sessions of the same login, which a single call of Recheck covers. A session with an empty
	// key is rechecked separately.
	LoginKey() string
}

// ExpiringLogin is implemented by [Identity.Credentials] that expire. If absent, the login is rechecked at the recheck
// interval only.
type ExpiringLogin interface {
	// Until is the time at which the login is rechecked in any case; zero: never. The time may change; the engine reads
	// it again at the end.
	Until() time.Time
}

// ClaimKeeper is a [Broker] whose channel layer keeps claims: short texts that nodes change one after another, so that
// one of several nodes does a piece of work. If absent, claims hold within this node, and two nodes may publish a
// message with the same idempotency key.
type ClaimKeeper interface {
	// SwapClaims makes each change whose From is the claim's text, and returns the texts of all claims afterwards, in the
	// order of the changes. A change that is sent twice because a response was lost has the effect of one. After an
	// error, some of the changes may have been made.
	SwapClaims(ctx context.Context, swaps []ClaimSwap) (texts []string, err error)
}

// ClaimSwap is a change of a claim.
type ClaimSwap struct {
	// Key names the claim; ASCII letters and digits. The layer puts a prefix before it.
	Key string
	// From is the text before the change and To the text after it; "" is no claim.
	From, To string
	// Lifetime is the time after which the claim ends.
	Lifetime time.Duration
}

// ProfiledLogin is implemented by [Identity.Credentials] that follow the user's profile. If absent, the profile of the
// handshake counts as long as the client is connected.
type ProfiledLogin interface {
	// Profile is the user's profile as of the last recheck, in the form of [Identity.Profile]. Empty: unknown.
	Profile() string
}

// SubprotocolLogin is implemented by [Identity.Credentials] that came in the header Sec-WebSocket-Protocol. If absent,
// the client's protocol alone selects the subprotocol.
type SubprotocolLogin interface {
	// AnswerSubprotocol is the requested subprotocol to answer unless the client's protocol selects another one: browsers
	// fail a handshake without an answer. Empty: none.
	AnswerSubprotocol() string
}
