// Package guest declares the interfaces between the app and its guest modules: channel layers and authenticators. The
// comment of each optional interface explains the absence. To add a module of your own, copy examples/guests.
package guest

import (
	"context"
	"log/slog"
	"time"

	"github.com/edgerelay/edgerelay/internal/doctor"
	"github.com/edgerelay/edgerelay/relay"
)

// ChannelLayer is a guest module of the namespace edgerelay.channel_layers.
type ChannelLayer interface {
	// Place identifies the servers to which the layer connects. A reload that keeps the place keeps the open broker.
	Place() string
	// Open returns a broker that has not been started.
	Open(log *slog.Logger) (relay.Broker, error)
	// Apply changes the settings of an open broker of the same place.
	Apply(relay.Broker) error
}

// Resyncer is a [ChannelLayer] with the setting resync. Without this interface, clients receive no message when events
// may have been lost.
type Resyncer interface {
	// ResyncText returns the JSON text for clients that may have lost events. An empty text sends no message.
	ResyncText() string
}

// Auth is a guest module of the namespace edgerelay.auth.
type Auth interface {
	// Authorizer returns the authorizer and the interval between rechecks of open sessions. 0 turns rechecks off.
	Authorizer() (a relay.Authorizer, recheck time.Duration, err error)
}

// RecheckGracer is an [Auth] that bounds the time a session stays open while the authority does not answer rechecks.
// Without this interface, the session stays open.
type RecheckGracer interface {
	// Grace returns the bound. [relay.NoGrace] means none.
	Grace() time.Duration
}

// OpenAuth is an [Auth] that may admit every client. Without this interface, the console and the demo page require a
// login.
type OpenAuth interface {
	// OpenToAll reports whether every client may see everything.
	OpenToAll() bool
}

// UnprivilegedAuth is an [Auth] that may have no superusers. Without this interface, superusers may use the console.
type UnprivilegedAuth interface {
	// LacksSuperusers reports whether no user is a superuser. The console's configuration must then name its operators.
	LacksSuperusers() bool
}

// TokenAuth is an [Auth] whose authorizer is a [relay.TokenAuthorizer]. Without this interface, the messages of clients
// have no tokens.
type TokenAuth interface {
	// RefreshMember is the member of a JSON message that replaces the client's token; empty: none does.
	RefreshMember() string
	// FirstMessage is the time that a client without a token has for its first message.
	FirstMessage() time.Duration
}

// Finding is the result of one of an [Examiner]'s checks.
type Finding = doctor.Finding

// Level is the severity of a [Finding].
type Level = doctor.Level

// Levels of a [Finding].
const (
	OK      = doctor.OK
	Warning = doctor.Warning
	Failure = doctor.Failure
)

// Examiner is a [ChannelLayer] or an [Auth] that can check the services on which it depends. Without this interface,
// doctor checks only the round trip of an event.
type Examiner interface {
	// Examine returns the findings of all checks. The caller may run Examine before the module is in operation.
	Examine(ctx context.Context) []Finding
}

// GroupLister is a [ChannelLayer] that can list the groups of all processes. Without this interface, doctor --channels
// listens only to the groups of this node's clients.
type GroupLister interface {
	// ListGroups returns the names of groups, at most limit.
	ListGroups(ctx context.Context, limit int) ([]string, error)
}

// HistoryExaminer is a [ChannelLayer] that keeps the histories of groups itself and can check the services for it.
// Without this interface, doctor reports only whether histories are kept.
type HistoryExaminer interface {
	// ExamineHistory returns the findings for a policy with at least one rule, as Examine does.
	ExamineHistory(ctx context.Context, policy relay.HistoryPolicy) []Finding
}

// MailboxExaminer is an [Auth] that knows the site's emitters and can therefore judge a mailbox's capacity. Without
// this interface, doctor accepts any capacity.
type MailboxExaminer interface {
	// ExamineMailbox judges the capacity, in messages, of this node's mailbox in the channel layer.
	ExamineMailbox(capacity int) Finding
}
