// Package composite makes several authorizers one, so that each route of a site can have its own.
package composite

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Authorizer asks, about each client, the member that has authenticated it. Methods of relay's interfaces may be called
// concurrently, but not at the same time as [Authorizer.Add].
// See docs/decisions/protocol-and-authz.md#why-does-the-hub-have-one-authorizer-for-all-routes
type Authorizer struct {
	first   relay.Authorizer
	members map[string]*Member
}

var (
	_ relay.Authorizer          = (*Authorizer)(nil)
	_ relay.GroupRechecker      = (*Authorizer)(nil)
	_ relay.Successor           = (*Authorizer)(nil)
	_ relay.ConcurrentRechecker = (*Authorizer)(nil)
	_ relay.TokenAuthorizer     = (*Authorizer)(nil)
	_ relay.KindComparer        = (*Authorizer)(nil)
	_ relay.Authorizer          = (*Member)(nil)
	_ relay.TokenAuthorizer     = (*Member)(nil)
	_ relay.SharedLogin         = (*credentials)(nil)
	_ relay.ExpiringLogin       = (*credentials)(nil)
	_ relay.SubprotocolLogin    = (*credentials)(nil)
	_ relay.ProfiledLogin       = (*credentials)(nil)
)

// New returns an authorizer with a single member. The clients of first stay as they are: they outlive a change from
// first alone to a composite, and back.
func New(first relay.Authorizer) *Authorizer {
	return &Authorizer{first: first, members: map[string]*Member{}}
}

// Add adds a member under a name, by which its clients are known across configurations. Two names may have the same
// authorizer. A name that exists is an error.
func (a *Authorizer) Add(name string, member relay.Authorizer) (*Member, error) {
	if a.members[name] != nil {
		return nil, fmt.Errorf("there are two authorizers with the name %q", name)
	}
	m := &Member{name: name, Authorizer: member}
	a.members[name] = m
	return m, nil
}

// First returns the authorizer of all clients that no other member has authenticated.
func (a *Authorizer) First() relay.Authorizer { return a.first }

// Each calls f for each distinct authorizer, with one of its names; that of the first is empty.
func (a *Authorizer) Each(f func(name string, member relay.Authorizer)) {
	f("", a.first)
	seen := map[relay.Authorizer]bool{}
	known := func(member relay.Authorizer) bool {
		if !reflect.ValueOf(member).Comparable() { // a third party's, such as a map
			return false
		}
		defer func() { seen[member] = true }()
		return seen[member]
	}
	known(a.first)
	for name, m := range a.members {
		if !known(m.Authorizer) {
			f(name, m.Authorizer)
		}
	}
}

// Member is an authorizer within a composite. It authenticates the clients that the composite will know as the
// member's.
type Member struct {
	relay.Authorizer
	name string
}

// Authenticate implements [relay.Authorizer].
func (m *Member) Authenticate(r *http.Request) (relay.Identity, error) {
	return m.wrap(m.Authorizer.Authenticate(r))
}

// AuthenticateToken implements [relay.TokenAuthorizer].
func (m *Member) AuthenticateToken(ctx context.Context, token string) (relay.Identity, error) {
	t, ok := m.Authorizer.(relay.TokenAuthorizer)
	if !ok {
		return relay.Identity{}, relay.ErrUnauthenticated
	}
	return m.wrap(t.AuthenticateToken(ctx, token))
}

// Refresh implements [relay.TokenAuthorizer].
func (m *Member) Refresh(ctx context.Context, id relay.Identity, token string) error {
	if c, ok := id.Credentials.(*credentials); ok && c.member == m.name {
		id.Credentials = c.inner
		return refresh(ctx, m.Authorizer, id, token)
	}
	return relay.ErrUnauthenticated
}

func (m *Member) wrap(id relay.Identity, err error) (relay.Identity, error) {
	if err == nil {
		id.Credentials = &credentials{member: m.name, inner: id.Credentials}
	}
	return id, err
}

// credentials are those of a member's client.
type credentials struct {
	member string
	inner  any
}

// LoginKey implements [relay.SharedLogin]. Logins of different members are never the same.
func (c *credentials) LoginKey() string {
	if s, ok := c.inner.(relay.SharedLogin); ok {
		if key := s.LoginKey(); key != "" {
			return c.member + "\x00" + key
		}
	}
	return ""
}

// Until implements [relay.ExpiringLogin].
func (c *credentials) Until() time.Time {
	if e, ok := c.inner.(relay.ExpiringLogin); ok {
		return e.Until()
	}
	return time.Time{}
}

// AnswerSubprotocol implements [relay.SubprotocolLogin].
func (c *credentials) AnswerSubprotocol() string {
	if s, ok := c.inner.(relay.SubprotocolLogin); ok {
		return s.AnswerSubprotocol()
	}
	return ""
}

// Profile implements [relay.ProfiledLogin].
func (c *credentials) Profile() string {
	if p, ok := c.inner.(relay.ProfiledLogin); ok {
		return p.Profile()
	}
	return ""
}

// find returns the authorizer of a client, nil if it no longer exists, and the identity that the authorizer knows.
func (a *Authorizer) find(id relay.Identity) (relay.Authorizer, relay.Identity) {
	c, ok := id.Credentials.(*credentials)
	if !ok {
		return a.first, id
	}
	m := a.members[c.member]
	if m == nil {
		return nil, id
	}
	id.Credentials = c.inner
	return m.Authorizer, id
}

// Authenticate implements [relay.Authorizer] for clients of the first member.
func (a *Authorizer) Authenticate(r *http.Request) (relay.Identity, error) {
	return a.first.Authenticate(r)
}

// AuthenticateToken implements [relay.TokenAuthorizer] for clients of the first member.
func (a *Authorizer) AuthenticateToken(ctx context.Context, token string) (relay.Identity, error) {
	if t, ok := a.first.(relay.TokenAuthorizer); ok {
		return t.AuthenticateToken(ctx, token)
	}
	return relay.Identity{}, relay.ErrUnauthenticated
}

// Refresh implements [relay.TokenAuthorizer].
func (a *Authorizer) Refresh(ctx context.Context, id relay.Identity, token string) error {
	member, id := a.find(id)
	return refresh(ctx, member, id, token)
}

func refresh(ctx context.Context, member relay.Authorizer, id relay.Identity, token string) error {
	if t, ok := member.(relay.TokenAuthorizer); ok {
		return t.Refresh(ctx, id, token)
	}
	return relay.ErrUnauthenticated
}

// Authorize implements [relay.Authorizer].
func (a *Authorizer) Authorize(ctx context.Context, id relay.Identity, group string) error {
	member, id := a.find(id)
	if member == nil {
		return relay.ErrDenied
	}
	return member.Authorize(ctx, id, group)
}

// Recheck implements [relay.Authorizer]. The clients of a member that no longer exists are not logged in.
func (a *Authorizer) Recheck(ctx context.Context, id relay.Identity) error {
	member, id := a.find(id)
	if member == nil {
		return relay.ErrUnauthenticated
	}
	return member.Recheck(ctx, id)
}

// Rechecks implements [relay.GroupRechecker].
func (a *Authorizer) Rechecks(group string) bool {
	if rechecks(a.first, group) {
		return true
	}
	for _, m := range a.members {
		if rechecks(m.Authorizer, group) {
			return true
		}
	}
	return false
}

func rechecks(a relay.Authorizer, group string) bool {
	g, ok := a.(relay.GroupRechecker)
	return ok && g.Rechecks(group)
}

// RecheckGroup implements [relay.GroupRechecker].
func (a *Authorizer) RecheckGroup(ctx context.Context, id relay.Identity, group string) error {
	member, id := a.find(id)
	switch {
	case member == nil:
		return relay.ErrDenied
	case !rechecks(member, group):
		return nil
	}
	return member.(relay.GroupRechecker).RecheckGroup(ctx, id, group)
}

// Succeed implements [relay.Successor]. Each member takes over from the member of the same name.
func (a *Authorizer) Succeed(before relay.Authorizer) {
	b, ok := before.(*Authorizer)
	if !ok {
		b = New(before)
	}
	succeed(a.first, b.first)
	for name, m := range a.members {
		if previous := b.members[name]; previous != nil {
			succeed(m.Authorizer, previous.Authorizer)
		}
	}
}

func succeed(a, before relay.Authorizer) {
	if s, ok := a.(relay.Successor); ok && a != before {
		s.Succeed(before)
	}
}

// SameKind implements [relay.KindComparer]: no client's member is gone or of another kind.
func (a *Authorizer) SameKind(before relay.Authorizer) bool {
	b, ok := before.(*Authorizer)
	if !ok {
		return sameKind(a.first, before)
	}
	if !sameKind(a.first, b.first) {
		return false
	}
	for name, previous := range b.members {
		if m := a.members[name]; m == nil || !sameKind(m.Authorizer, previous.Authorizer) {
			return false
		}
	}
	return true
}

func sameKind(a, before relay.Authorizer) bool {
	if c, ok := a.(relay.KindComparer); ok {
		return c.SameKind(before)
	}
	return reflect.TypeOf(a) == reflect.TypeOf(before)
}

// defaultConcurrency is the concurrency of a member without one, as in the hub.
const defaultConcurrency = 8

// Concurrency implements [relay.ConcurrentRechecker] by the sum of the members'.
func (a *Authorizer) Concurrency() int {
	sum := 0
	a.Each(func(_ string, member relay.Authorizer) {
		if c, ok := member.(relay.ConcurrentRechecker); ok {
			sum += max(c.Concurrency(), 1)
		} else {
			sum += defaultConcurrency
		}
	})
	return sum
}
