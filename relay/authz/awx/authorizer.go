// Package awx authenticates clients and authorizes groups by AWX's HTTP API.
//
// [NewAuthorizer] returns an [Authorizer], which sends each request with the credentials of the client's own
// handshake. A lookup goes through a cache of recent responses (cache.go) and a queue that shares the concurrent
// requests fairly (queue.go).
package awx

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// failureTTL is how long a failed response is kept, so that an API in trouble is not flooded with retries.
const failureTTL = time.Second

// Authorizer implements [relay.Authorizer] by AWX's HTTP API. Its methods are safe for concurrent use.
type Authorizer struct {
	settings Settings
	api      *api
	users    *cache[relay.Identity] // by credentials.key
	objects  *cache[bool]           // by credentials.key and path
	logins   atomic.Pointer[confirmedLogins]
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
		s.ClientAddress = remoteAddress
	}
	ttl := func(err error) time.Duration {
		switch {
		case errors.Is(err, relay.ErrBusy): // the queue may have room the next moment
			return -1
		case err != nil && !errors.Is(err, relay.ErrUnauthenticated):
			return min(failureTTL, s.Cache)
		}
		return s.Cache
	}
	a := &Authorizer{
		settings: s,
		api:      api,
		users: newCache(func(_ relay.Identity, err error) time.Duration { return ttl(err) },
			func(relay.Identity) bool { return true }),
		objects: newCache(func(_ bool, err error) time.Duration { return ttl(err) },
			func(canSee bool) bool { return canSee }),
	}
	a.logins.Store(new(confirmedLogins))
	return a, nil
}

// Succeed implements [relay.Successor]. An authorizer of the same URL takes over the confirmed logins of its
// predecessor; otherwise every user would queue with strangers after a reload.
func (a *Authorizer) Succeed(before relay.Authorizer) {
	if b, ok := before.(*Authorizer); ok && b.settings.URL == a.settings.URL {
		a.logins.Store(b.logins.Load())
	}
}

// remoteAddress returns the peer address of a request's connection.
func remoteAddress(r *http.Request) netip.Addr {
	address, _ := netip.ParseAddrPort(r.RemoteAddr)
	return address.Addr().Unmap()
}

// Settings returns the settings that NewAuthorizer was called with, defaults filled in.
func (a *Authorizer) Settings() Settings { return a.settings }

// Concurrency returns the maximum number of requests in flight. The hub sizes its rechecks by it.
func (a *Authorizer) Concurrency() int { return a.api.queue.Slots() }

// Close closes idle connections to the API. The authorizer remains usable.
func (a *Authorizer) Close() { a.api.close() }

// Authenticate implements [relay.Authorizer] by GET /api/v2/me/.
func (a *Authorizer) Authenticate(r *http.Request) (relay.Identity, error) {
	candidates, err := a.candidates(r)
	if err != nil {
		return relay.Identity{}, err
	}
	for _, c := range candidates {
		by := strangerRequester(c.address)
		if user, known := a.logins.Load().user(c.key); known {
			by = userRequester(classKnownLogin, user)
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
	ctx context.Context, c *credentials, by requester, fresh bool,
) (relay.Identity, error) {
	return a.users.get(ctx, c.key, fresh, func(ctx context.Context) (relay.Identity, error) {
		id, err := a.api.fetchUser(ctx, c, by)
		switch {
		case err == nil:
			a.logins.Load().add(c.key, id.Key)
		case errors.Is(err, relay.ErrUnauthenticated):
			a.logins.Load().remove(c.key)
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
	now, err := a.identify(ctx, c, userRequester(classRecheck, id.Key), true)
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
