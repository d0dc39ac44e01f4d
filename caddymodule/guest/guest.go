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
	// Place identifies what the layer connects to. While it stays the same over a reload, the
	// open broker stays in use.
	Place() string
	// Open returns a broker that is not started yet.
	Open(log *slog.Logger) (relay.Broker, error)
	// Apply gives the settings to an open broker of the same place.
	Apply(relay.Broker) error
}

// Resyncer is a [ChannelLayer] with a setting resync. Without it, clients are told nothing of lost events.
type Resyncer interface {
	// ResyncText is the JSON text for clients whose events may have been lost, empty for none.
	ResyncText() string
}

// Auth is a guest module of the namespace edgerelay.auth.
type Auth interface {
	// Authorizer returns the authorizer, and how often open sessions are checked again (0: never).
	Authorizer() (a relay.Authorizer, recheck time.Duration, err error)
}

// RecheckGracer is an [Auth] that bounds how long a session stays open while its recheck gets no certain answer.
// Without it, such a session stays open.
type RecheckGracer interface {
	// Grace is that time; relay.NoGrace is no bound.
	Grace() time.Duration
}

// Opener is an [Auth] that admits everybody. Without it, the console and the demo page ask for a login.
type OpenAuth interface {
	// OpenToAll reports that every client may see everything.
	OpenToAll() bool
}

// OperatorNamer is an [Auth] whose users have no superusers among them. Without it, superusers are the console's operators.
type UnprivilegedAuth interface {
	// NamesOperators reports that the console must be told who its operators are.
	LacksSuperusers() bool
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

// Examiner is a [ChannelLayer] or an [Auth] that can check the services on which it depends. Without it, doctor checks
// only whether an event makes its round trip.
type Examiner interface {
	// Examine returns the findings of all checks. It runs before the module is in operation, too.
	Examine(ctx context.Context) []Finding
}

// MailboxExaminer is an [Auth] that can judge the capacity of a node's mailbox in the channel layer, because it knows
// the emitters. Without it, doctor takes any capacity for intended.
type MailboxExaminer interface {
	ExamineMailbox(capacity int) Finding
}
