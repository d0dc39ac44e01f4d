// Package awx authenticates clients and authorizes groups by AWX's HTTP API.
//
// [NewAuthorizer] returns an [Authorizer], which sends each request with the credentials of the client's own
// handshake. A lookup goes through a cache of recent responses and a queue that shares the concurrent requests fairly,
// both of package authority.
package awx

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/internal/authority"
)

// Authorizer implements [relay.Authorizer] by AWX's HTTP API. Its methods are safe for concurrent use.
type Authorizer struct {
	settings Settings
	api      *api
	users    *authority.Cache[relay.Identity] // by credentials.key
	objects  *authority.Cache[bool]           // by credentials.key and path
	logins   atomic.Pointer[authority.Logins]
}

var (
	_ relay.Authorizer     = (*Authorizer)(nil)
	_ relay.GroupRechecker = (*Authorizer)(nil)
	_ relay.Successor      = (*Authorizer)(nil)
)

// NewAuthorizer returns an authorizer. The error describes an invalid URL without repeating it.
func NewAuthorizer(s Settings) (*Authorizer, error) {
	api, err := newAPI(s)
	if err != nil {
		return nil, err
	}
	if s.ClientAddress == nil {
		s.ClientAddress = authority.RemoteAddress
	}
	a := &Authorizer{
		settings: s,
		api:      api,
		users: authority.NewCache(func(_ relay.Identity, err error) time.Duration { return authority.TTL(err, s.Cache) },
			func(relay.Identity) bool { return true }),
		objects: authority.NewCache(func(_ bool, err error) time.Duration { return authority.TTL(err, s.Cache) },
			func(canSee bool) bool { return canSee }),
	}
	a.logins.Store(new(authority.Logins))
	return a, nil
}

// Succeed implements [relay.Successor]. An authorizer of the same URL takes over the confirmed logins of its
// predecessor; otherwise every user would queue with strangers after a reload.
func (a *Authorizer) Succeed(before relay.Authorizer) {
	if b, ok := before.(*Authorizer); ok && b.settings.URL == a.settings.URL {
		a.logins.Store(b.logins.Load())
	}
}

// Settings returns the settings that NewAuthorizer was called with, defaults filled in.
func (a *Authorizer) Settings() Settings { return a.settings }

// Concurrency returns the maximum number of requests in flight. The hub sizes its rechecks by it.
func (a *Authorizer) Concurrency() int { return a.api.queue.Concurrency() }

// Close closes idle connections to the API. The authorizer remains usable.
func (a *Authorizer) Close() { a.api.close() }

// Authenticate implements [relay.Authorizer] by GET /api/v2/me/.
func (a *Authorizer) Authenticate(r *http.Request) (relay.Identity, error) {
	candidates, err := a.candidates(r)
	if err != nil {
		return relay.Identity{}, err
	}
	for _, c := range candidates {
		by := authority.StrangerRequester(c.address)
		if user, known := a.logins.Load().User(c.key); known {
			by = authority.UserRequester(authority.ClassKnownLogin, user)
		}
		id, err := a.identify(r.Context(), c, by, false)
		if !errors.Is(err, relay.ErrUnauthenticated) {
			return id, err
		}
	}
	return relay.Identity{}, relay.ErrUnauthenticated
}

// identify returns the user of credentials. With fresh, the cache does not count.
func (a *Authorizer) identify(
	ctx context.Context, c *credentials, by authority.Requester, fresh bool,
) (relay.Identity, error) {
	return a.users.Get(ctx, c.key, fresh, func(ctx context.Context) (relay.Identity, error) {
		id, err := a.api.fetchUser(ctx, c, by)
		switch {
		case err == nil:
			a.logins.Load().Add(c.key, id.Key)
		case errors.Is(err, relay.ErrUnauthenticated):
			a.logins.Load().Remove(c.key)
		}
		return id, err
	})
}

// Recheck implements [relay.Authorizer].
func (a *Authorizer) Recheck(ctx context.Context, id relay.Identity) error {
	c, ok := id.Credentials.(*credentials)
	if !ok { // authenticated by another kind of authorizer, before a change of configuration
		return relay.ErrUnauthenticated
	}
	if c.expired() { // AWX would reject the token of every user
		if time.Now().Before(c.renewAt) {
			return nil
		}
		return relay.ErrExpired
	}
	now, err := a.identify(ctx, c, authority.UserRequester(authority.ClassRecheck, id.Key), true)
	switch {
	case err == nil && now.ID != id.ID:
		return relay.ErrUnauthenticated
	case err == nil && now.Kind != id.Kind:
		return relay.ErrChanged
	case errors.Is(err, relay.ErrUnauthenticated) && c.expired(): // the token expired during the request
		return nil
	}
	return err
}
