// Package site authenticates clients and authorizes groups by asking an HTTP endpoint of the site.
//
// [NewAuthorizer] returns an [Authorizer], which sends the client's own Cookie and Authorization (client.go) and reads
// who the client is and which groups it may see (response.go). A lookup goes through a cache of recent responses and a
// queue that shares the concurrent requests fairly, both of package authority.
package site

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/internal/authority"
)

// Authorizer implements [relay.Authorizer] by an endpoint of the site. Its methods are safe for concurrent use.
type Authorizer struct {
	settings Settings
	client   *client
	users    *authority.Cache[*answer] // by credentials.key
	groups   *authority.Cache[bool]    // by credentials.key and group
	logins   atomic.Pointer[authority.Logins]
}

var (
	_ relay.Authorizer          = (*Authorizer)(nil)
	_ relay.GroupRechecker      = (*Authorizer)(nil)
	_ relay.Successor           = (*Authorizer)(nil)
	_ relay.ConcurrentRechecker = (*Authorizer)(nil)
	_ relay.SharedLogin         = (*credentials)(nil)
	_ relay.ExpiringLogin       = (*credentials)(nil)
	_ relay.ProfiledLogin       = (*credentials)(nil)
)

// NewAuthorizer returns an authorizer. The error describes an invalid URL without repeating it.
func NewAuthorizer(s Settings) (*Authorizer, error) {
	c, err := newClient(s)
	if err != nil {
		return nil, err
	}
	if s.ClientAddress == nil {
		s.ClientAddress = authority.RemoteAddress
	}
	a := &Authorizer{
		settings: s, client: c,
		users: authority.NewCache(func(u *answer, err error) time.Duration {
			ttl := authority.TTL(err, s.Cache)
			if u != nil && !u.until.IsZero() {
				ttl = min(ttl, time.Until(u.until))
			}
			return ttl
		}, func(*answer) bool { return true }),
		groups: authority.NewCache(func(_ bool, err error) time.Duration { return authority.TTL(err, s.Cache) },
			func(allowed bool) bool { return allowed }),
	}
	a.logins.Store(new(authority.Logins))
	return a, nil
}

// Succeed implements [relay.Successor]. An authorizer of the same URL takes over the confirmed logins.
func (a *Authorizer) Succeed(before relay.Authorizer) {
	if b, ok := before.(*Authorizer); ok && b.settings.URL == a.settings.URL {
		a.logins.Store(b.logins.Load())
	}
}

// Settings returns the settings that NewAuthorizer was called with.
func (a *Authorizer) Settings() Settings { return a.settings }

// Concurrency returns the maximum number of requests in flight. The hub sizes its rechecks by it.
func (a *Authorizer) Concurrency() int { return a.client.queue.Concurrency() }

// Close closes idle connections. The authorizer remains usable.
func (a *Authorizer) Close() { a.client.close() }

// Stats returns the counters of user lookups and of group lookups.
func (a *Authorizer) Stats() (users, groups authority.LookupStats) {
	return a.users.Snapshot(), a.groups.Snapshot()
}

// Queued returns the number of queued requests by class. The keys are metric label values.
func (a *Authorizer) Queued() map[string]int { return a.client.queue.Queued() }

// Authenticate implements [relay.Authorizer].
func (a *Authorizer) Authenticate(r *http.Request) (relay.Identity, error) {
	c, err := a.newCredentials(r)
	if err != nil {
		return relay.Identity{}, err
	}
	if c.key == "" {
		return relay.Identity{}, relay.ErrUnauthenticated
	}
	by := authority.StrangerRequester(c.address)
	if user, known := a.logins.Load().User(c.key); known {
		by = authority.UserRequester(authority.ClassKnownLogin, user)
	}
	u, err := a.identify(r.Context(), c, by, false)
	if err != nil {
		return relay.Identity{}, err
	}
	c.latest.Store(u)
	id := u.id
	id.Credentials = c
	return id, nil
}

// identify asks who a client is. With fresh, the cache does not count.
func (a *Authorizer) identify(
	ctx context.Context, c *credentials, by authority.Requester, fresh bool,
) (*answer, error) {
	u, err := a.users.Get(ctx, c.key, fresh, func(ctx context.Context) (*answer, error) {
		u, err := a.client.ask(ctx, c, by, "")
		switch {
		case err == nil:
			a.logins.Load().Add(c.key, u.id.Key)
		case errors.Is(err, relay.ErrUnauthenticated):
			a.logins.Load().Remove(c.key)
		}
		return u, err
	})
	if err == nil && !u.until.IsZero() && !time.Now().Before(u.until) {
		return nil, relay.ErrUnauthenticated
	}
	return u, err
}

// Recheck implements [relay.Authorizer].
func (a *Authorizer) Recheck(ctx context.Context, id relay.Identity) error {
	c, ok := id.Credentials.(*credentials)
	if !ok { // authenticated by another kind of authorizer, before a change of configuration
		return relay.ErrUnauthenticated
	}
	now, err := a.identify(ctx, c, authority.UserRequester(authority.ClassRecheck, id.Key), true)
	switch {
	case err != nil:
		if until := c.Until(); !until.IsZero() && !time.Now().Before(until) {
			return relay.ErrExpired // the site has promised no more
		}
		return err
	case now.id.ID != id.ID:
		return relay.ErrUnauthenticated
	case now.id.Kind != id.Kind:
		return relay.ErrChanged
	}
	c.latest.Store(now)
	return nil
}

// Authorize implements [relay.Authorizer]. The groups of the response about the login decide; a group that is not among
// them is asked for.
func (a *Authorizer) Authorize(ctx context.Context, id relay.Identity, group string) error {
	return a.authorize(ctx, id, group, authority.ClassSubscription, false)
}

// Rechecks implements [relay.GroupRechecker].
func (a *Authorizer) Rechecks(string) bool { return true }

// RecheckGroup implements [relay.GroupRechecker].
func (a *Authorizer) RecheckGroup(ctx context.Context, id relay.Identity, group string) error {
	return a.authorize(ctx, id, group, authority.ClassRecheck, true)
}

func (a *Authorizer) authorize(
	ctx context.Context, id relay.Identity, group string, class int, fresh bool,
) error {
	c, ok := id.Credentials.(*credentials)
	if !ok {
		return relay.ErrDenied
	}
	by := authority.UserRequester(class, id.Key)
	u, err := a.identify(ctx, c, by, false) // usually cached: Recheck asks before RecheckGroup is called
	switch {
	case errors.Is(err, relay.ErrUnauthenticated):
		return relay.ErrDenied
	case err != nil:
		return err
	case u.id.ID != id.ID:
		return relay.ErrDenied
	case u.groups.Match(group):
		return nil
	}
	allowed, err := a.groups.Get(ctx, c.key+"\x00"+group, fresh, func(ctx context.Context) (bool, error) {
		u, err := a.client.ask(ctx, c, by, group)
		switch {
		case errors.Is(err, relay.ErrUnauthenticated), errors.Is(err, relay.ErrDenied):
			return false, nil
		case err != nil:
			return false, err
		}
		return u.id.ID == id.ID && u.groups.Match(group), nil
	})
	if err == nil && !allowed {
		return relay.ErrDenied
	}
	return err
}

// keyOf returns a text that is equal for handshakes of one login; empty for one without credentials, about which the
// site is not asked. The host is a part of it: a site that serves several hosts may have other users on each.
func (a *Authorizer) keyOf(c *credentials) string {
	cookies, _ := authority.CookieKey(c.cookie, a.settings.SessionCookie)
	if cookies == "" && c.authorization == "" && len(c.headers) == 0 && !strings.Contains(c.uri, "?") {
		return ""
	}
	var key strings.Builder
	key.WriteString(cookies + "\x00authorization\x00" + c.authorization + "\x00uri\x00" + c.uri +
		"\x00host\x00" + c.host)
	for _, h := range c.headers {
		key.WriteString("\x00header\x00" + h.name + "\x00" + h.value)
	}
	return key.String()
}
