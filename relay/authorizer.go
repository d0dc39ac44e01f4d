package relay

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Authorizer authenticates clients and decides which groups they may see. Methods may be called concurrently.
//
// Optional: [GroupRechecker], [Successor], [ConcurrentRechecker], [TokenAuthorizer], [KindComparer].
type Authorizer interface {
	// Authenticate identifies the client of the handshake r. [ErrUnauthenticated] means that the client is not logged
	// in; any other error means that the authority could not be asked.
	Authenticate(r *http.Request) (Identity, error)
	// Authorize returns nil if id may see the group. [ErrDenied] means that id may not; any other error means that the
	// authority could not be asked. Both deny the group.
	Authorize(ctx context.Context, id Identity, group string) error
	// Recheck returns nil if a connected client is still logged in. [ErrUnauthenticated], [ErrChanged] and [ErrExpired]
	// end the session; after any other error the session stays open, within the grace time (see [NoGrace]).
	Recheck(ctx context.Context, id Identity) error
}

// NoGrace, as the grace time of rechecks, keeps sessions open for as long as the authority cannot be asked.
const NoGrace time.Duration = -1

// Identity is the user behind a client.
type Identity struct {
	// ID is the user's id as a JSON value, as clients see it: a number or a string.
	ID string
	// Key is the same id as plain text, by which connections per user are counted. Connections with an empty Key are
	// not counted.
	Key string
	// Name is the user's name for logs.
	Name string
	// Profile is a JSON object about the user, such as the claims of a token, for plugins and for the placeholders of
	// routes; or empty.
	Profile string
	// Kind is the kind of user, by which sessions are counted.
	Kind Kind
	// Credentials belong to the Authorizer that made the Identity; nil is allowed. Optional: [SharedLogin],
	// [ExpiringLogin], [SubprotocolLogin], [ProfiledLogin].
	Credentials any
}

// OwnSession is the Credentials of a session that the process opened to itself. Rechecks skip such sessions.
type OwnSession struct{}

// Kind is a kind of user.
type Kind uint8

const (
	// User is an authenticated user without particular rights.
	User Kind = iota
	// Superuser may see and do everything.
	Superuser
	// Auditor may see everything.
	Auditor
	// Anybody is an unauthenticated user of a site that does not authenticate.
	Anybody
	// KindCount is the number of kinds.
	KindCount
)

// String returns the kind's name in metrics.
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
	// ErrChanged means that a client is still logged in, but with other rights: the client must reconnect.
	ErrChanged = errors.New("the user has other rights now")
	// ErrExpired means that a client's credentials have expired: the client must reconnect with new credentials.
	ErrExpired = errors.New("the credentials have expired")
	// ErrUnauthenticated means that a client is not logged in.
	ErrUnauthenticated = errors.New("not authenticated")
	// ErrDenied means that a user may not see a group.
	ErrDenied = errors.New("access denied")
	// ErrOtherUser is [ErrDenied] for another user's group. AWX's pages request such a group for every user, so the
	// error is no reason for concern.
	ErrOtherUser = fmt.Errorf("%w: the group is another user's", ErrDenied)
	// ErrTokenAwaited is [ErrUnauthenticated] for a client that has sent no token yet, and may send one in its first
	// message; see [TokenAuthorizer].
	ErrTokenAwaited = fmt.Errorf("%w: the token comes with the first message", ErrUnauthenticated)
	// ErrBusy means that too many requests to the authority are queued: the client may retry in a few seconds.
	ErrBusy = errors.New("too many requests to the authority are queued")
)

// RenewReason is the close reason for expired credentials.
const RenewReason = "the login must be renewed"

// Open authenticates every client as user 1 and allows every group, for development.
type Open struct{}

// Authenticate accepts every client.
func (Open) Authenticate(*http.Request) (Identity, error) {
	return Identity{ID: "1", Kind: Anybody}, nil
}

// Authorize allows every group.
func (Open) Authorize(context.Context, Identity, string) error { return nil }

// Recheck never ends a session.
func (Open) Recheck(context.Context, Identity) error { return nil }
