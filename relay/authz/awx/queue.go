package awx

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/fairqueue"
)

// The classes of questions to AWX's API. Each has a share of the requests that may be in flight, so that none of them,
// and no address and no user within one of them, keeps the others waiting.
const (
	// ofKnownLogins are handshakes of logins that the API has confirmed before, by user.
	ofKnownLogins = iota
	// ofStrangers are all other handshakes, by address.
	ofStrangers
	// ofSubscriptions are questions about objects that clients subscribe to, by user.
	ofSubscriptions
	// ofRechecks are questions about logins and subscriptions that stand, by user.
	ofRechecks
)

// classNames are the classes as metrics show them.
var classNames = [...]string{"known_login", "stranger", "subscription", "recheck"}

// classes are the shares of the classes, and how many questions of each may wait. Handshakes beyond that are rejected
// at once. Subscriptions are bounded by what a client may ask at once, and rechecks by the hub.
var classes = []fairqueue.Class{
	ofKnownLogins: {Weight: 3, PerKey: 256, Total: 4096, Wait: 10 * time.Second},
	// An office that comes back after a restart, where AWX answers 50 questions a second. Its pages up to 24.6.1 do not
	// try again.
	ofStrangers:     {Weight: 1, PerKey: 1024, Total: 4096, Wait: 30 * time.Second},
	ofSubscriptions: {Weight: 2, PerKey: 1024, Total: 8192, Wait: 15 * time.Second},
	ofRechecks:      {Weight: 2, PerKey: 1024, Total: 8192, Wait: 30 * time.Second},
}

// turn is whose question it is: the class, and the user or address that takes turns with others in it.
type turn struct {
	class int
	key   string
}

// ofUser is the turn of a user whom the API knows.
func ofUser(class int, user string) turn { return turn{class, "user " + user} }

// strangersPrefix is how many bits of an IPv6 address strangers share a turn by: a host has as many addresses in its
// network as it likes.
const strangersPrefix = 64

// ofAddress is a stranger's turn.
func ofAddress(address netip.Addr) turn {
	return turn{ofStrangers, relay.AddressKey(address, strangersPrefix).String()}
}

// wait waits for a turn, to be given back by calling release.
func (a *api) wait(ctx context.Context, t turn) (release func(), err error) {
	switch err := a.queue.Acquire(ctx, t.class, t.key); {
	case errors.Is(err, fairqueue.ErrFull):
		return nil, fmt.Errorf("AWX API: %w", relay.ErrBusy)
	case err != nil:
		return nil, err
	}
	return func() { a.queue.Release(t.class) }, nil
}

const (
	// seenLogins is how many logins are remembered at least, and half of what is at most.
	seenLogins = 16 << 10
	// seenOfUser is how many of them may be one user's: a user with a token can make up logins without end.
	seenOfUser = 64
)

// seen remembers logins that the API has confirmed, with their users. Of two generations, the older one is forgotten
// when the younger one is full.
type seen struct {
	mu           sync.Mutex // guards all below
	young, older generation
}

type generation struct {
	users map[string]string // by key of credentials
	count map[string]int    // logins of each user
}

// user returns the user of a login that was confirmed before.
func (s *seen) user(login string) (user string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if user, ok = s.young.users[login]; !ok {
		user, ok = s.older.users[login]
	}
	return user, ok
}

// confirm remembers a login.
func (s *seen) confirm(login, user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.young.users[login]; known || s.young.count[user] >= seenOfUser {
		return
	}
	if s.young.users == nil || len(s.young.users) >= seenLogins {
		s.older, s.young = s.young, generation{map[string]string{}, map[string]int{}}
	}
	s.young.users[login] = user
	s.young.count[user]++
}

// forget is called for a login that the API does not confirm any more.
func (s *seen) forget(login string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range []generation{s.young, s.older} {
		if user, ok := g.users[login]; ok {
			delete(g.users, login)
			if g.count[user]--; g.count[user] <= 0 {
				delete(g.count, user)
			}
		}
	}
}
