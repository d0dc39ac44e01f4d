package relay

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Authorizer decides who may connect and which groups they may see.
// All methods may be called concurrently.
type Authorizer interface {
	// Authenticate finds out who sends the handshake r. It returns ErrUnauthenticated for nobody,
	// and any other error when the question could not be answered.
	Authenticate(r *http.Request) (Identity, error)
	// Authorize says whether id may see the group "<kind>-<item>". It returns ErrDenied if not, and any
	// other error when the question could not be answered; both keep the client out.
	Authorize(ctx context.Context, id Identity, kind, item string) error
	// Recheck says whether a connected client is still logged in: ErrUnauthenticated ends its session,
	// any other error leaves it as it is.
	Recheck(ctx context.Context, id Identity) error
}

// GroupRechecker is an [Authorizer] whose decisions about groups change while clients are subscribed: a right can be
// withdrawn. Without these methods, a decision holds for as long as the subscription.
type GroupRechecker interface {
	// Rechecks reports whether the right to see a group can change, so that RecheckGroup is to be asked once in a
	// recheck interval.
	Rechecks(group string) bool
	// RecheckGroup says whether id may still see a group: ErrDenied ends the subscription, any other error leaves it as
	// it is.
	RecheckGroup(ctx context.Context, id Identity, group string) error
}

// NoGrace keeps sessions open for as long as the authorizer cannot answer.
const NoGrace time.Duration = -1

// Identity is who a client is.
type Identity struct {
	// ID is the user's id as a JSON value, as the accept frame shows it: a number where the identity provider has one, else a string.
	ID string
	// Key is the same id as plain text; limits count by it. Empty: connections are not counted by user.
	Key string
	// Name is the user's name for logs.
	Name string
	// Profile is what else is known of the user, a JSON object for plugins. May be empty.
	Profile string
	// Kind is what sort of user it is; sessions are counted by it.
	Kind Kind
	// Credentials is for the Authorizer that made the Identity. May be nil. With a method LoginKey() string, sessions
	// with the same key that is not empty are one login, which is checked again by one question. With a method Until()
	// time.Time, it is checked again at that time, unless that is zero.
	Credentials any
}

// OwnSession is the Credentials of a session that the process has opened to itself. No authorizer is asked about it
// again.
type OwnSession struct{}

// Kind is a sort of user.
type Kind uint8

const (
	// User is somebody whom the identity provider knows and says nothing particular about.
	User Kind = iota
	// Superuser may see and do everything.
	Superuser
	// Auditor may see everything.
	Auditor
	// Anybody is nobody in particular: nobody was asked who it is.
	Anybody
	// KindCount is how many kinds there are.
	KindCount
)

// String returns the kind's name as metrics show it.
func (k Kind) String() string {
	switch k {
	case Superuser:
		return "superuser"
	case Auditor:
		return "auditor"
	case Anybody:
		return "anybody"
	}
	return "user"
}

var (
	// ErrChanged means that a client is still logged in, but has other rights: it is to connect again.
	ErrChanged = errors.New("the user has other rights now")
	// ErrExpired means that a client's credentials have expired and cannot be checked any more: it is to connect again
	// with new ones.
	ErrExpired = errors.New("the credentials have expired")
	// ErrUnauthenticated means that nobody is logged in with the credentials at hand.
	ErrUnauthenticated = errors.New("not authenticated")
	// ErrDenied means that a user may not see a group.
	ErrDenied = errors.New("access denied")
	// ErrOtherUser is ErrDenied for a group that belongs to another user, which AWX's pages ask for whoever is logged
	// in.
	ErrOtherUser = fmt.Errorf("%w: the group is another user's", ErrDenied)
	// ErrBusy means that the authorizer has more questions to answer than it takes: the client is to try again in a few
	// seconds.
	ErrBusy = errors.New("too many questions wait for the authority")
)

// RenewReason is the reason in the close frame of a client whose credentials have expired.
const RenewReason = "the login must be renewed"

// Successor is an [Authorizer] that can take over from another one at a change of configuration.
type Successor interface {
	// Succeed is called before the authorizer is put in force, with the one in force until then.
	Succeed(before Authorizer)
}

// Open lets everybody see everything, as user 1. It is for development.
type Open struct{}

// Authenticate accepts everybody.
func (Open) Authenticate(*http.Request) (Identity, error) {
	return Identity{ID: "1", Kind: Anybody}, nil
}

// Authorize allows every group.
func (Open) Authorize(context.Context, Identity, string, string) error { return nil }

// Recheck never ends a session.
func (Open) Recheck(context.Context, Identity) error { return nil }
