// Package awx asks AWX's HTTP API which user a handshake belongs to and which groups that user may see.
package awx

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Settings say how AWX's HTTP API is asked.
type Settings struct {
	// URL is where AWX's HTTP API answers, such as "http://127.0.0.1:8054".
	URL string
	// Strict asks about every kind of object that has an owner, not only the three that AWX itself checks.
	Strict bool
	// Cache is how long an answer is good for.
	Cache time.Duration
	// Timeout bounds one request.
	Timeout time.Duration
	// Concurrency is how many requests may be under way at once.
	Concurrency int
	// SessionCookie is the cookie that names a login.
	SessionCookie string
	// TokenGrace is how long a login by the platform gateway's token outlives the token, which the API refuses from
	// then on.
	TokenGrace time.Duration
	// DenyOthers denies groups of kinds that AWX does not have, if Strict.
	DenyOthers bool
	// ClientAddress returns the address of a handshake's client; nil: that of the connection.
	ClientAddress func(*http.Request) netip.Addr
	// Transport carries the requests; nil: one of the authorizer's own.
	Transport http.RoundTripper
	// Wrap, if not nil, returns what carries the requests in place of a transport, such as one that traces them. The context of a request
	// has the values of the handshake's or subscription's that asked first.
	Wrap func(http.RoundTripper) http.RoundTripper
}

// DefaultSettings are the settings where nothing else is configured.
func DefaultSettings() Settings {
	return Settings{
		Strict: true, Cache: 5 * time.Second, Timeout: 5 * time.Second, Concurrency: 32,
		SessionCookie: "awx_sessionid", TokenGrace: 15 * time.Minute,
	}
}

// failureCache is how long a failure to answer is remembered, so that an API in trouble is not asked by everybody at once.
const failureCache = time.Second

// systemJobs are AWX's management jobs, which only superusers and auditors may see.
const systemJobs = "system_jobs"

// checked are the kinds that AWX's own consumer checks; owned are those that a strict authorizer checks besides.
// The values are resources below /api/v2/.
var (
	checked = map[string]string{
		"job_events":            "jobs",
		"workflow_events":       "workflow_jobs",
		"ad_hoc_command_events": "ad_hoc_commands",
	}
	owned = map[string]string{
		"project_update_events":   "project_updates",
		"inventory_update_events": "inventory_updates",
		"system_job_events":       systemJobs,
	}
	// open are AWX's other kinds, which every user may see.
	open = map[string]bool{"jobs": true, "schedules": true, "inventories": true}
)

// Authorizer asks AWX's HTTP API, with the credentials of the client's own handshake. It implements [relay.Authorizer].
type Authorizer struct {
	settings Settings
	api      *api
	users    *cache[relay.Identity]
	objects  *cache[bool]
	seen     atomic.Pointer[seen] // shared with the authorizers before this one
}

var (
	_ relay.Authorizer     = (*Authorizer)(nil)
	_ relay.GroupRechecker = (*Authorizer)(nil)
	_ relay.Successor      = (*Authorizer)(nil)
)

// NewAuthorizer returns an authorizer, or an error that says what is wrong with the URL.
func NewAuthorizer(s Settings) (*Authorizer, error) {
	api, err := newAPI(s)
	if err != nil {
		return nil, err
	}
	if s.ClientAddress == nil {
		s.ClientAddress = remoteAddress
	}
	keep := func(err error) time.Duration {
		switch {
		case errors.Is(err, relay.ErrBusy): // by the next moment there may be room
			return -1
		case err != nil && !errors.Is(err, relay.ErrUnauthenticated):
			return min(failureCache, s.Cache)
		}
		return s.Cache
	}
	authorizer := &Authorizer{
		settings: s,
		api:      api,
		users:    newCache(func(_ relay.Identity, err error) time.Duration { return keep(err) }, func(relay.Identity) bool { return true }),
		objects:  newCache(func(_ bool, err error) time.Duration { return keep(err) }, func(sees bool) bool { return sees }),
	}
	authorizer.seen.Store(new(seen))
	return authorizer, nil
}

// Succeed implements [relay.Successor]: an authorizer of the same API knows the logins that the one before it has confirmed.
// A reload would otherwise put all users in one line with strangers.
func (a *Authorizer) Succeed(before relay.Authorizer) {
	if b, ok := before.(*Authorizer); ok && b.settings.URL == a.settings.URL {
		a.seen.Store(b.seen.Load())
	}
}

// remoteAddress is the address that a request's connection comes from.
func remoteAddress(r *http.Request) netip.Addr {
	address, _ := netip.ParseAddrPort(r.RemoteAddr)
	return address.Addr().Unmap()
}

// Settings are what the authorizer was made with.
func (a *Authorizer) Settings() Settings { return a.settings }

// Close gives up idle connections to the API.
func (a *Authorizer) Close() { a.api.close() }

// Authenticate implements [relay.Authorizer] by GET /api/v2/me/.
func (a *Authorizer) Authenticate(r *http.Request) (relay.Identity, error) {
	candidates, err := a.candidates(r)
	if err != nil {
		return relay.Identity{}, err
	}
	for _, c := range candidates {
		t := ofAddress(c.address)
		if user, known := a.seen.Load().user(c.key); known {
			t = ofUser(ofKnownLogins, user)
		}
		id, err := a.identify(r.Context(), c, t, false)
		if !errors.Is(err, relay.ErrUnauthenticated) {
			return id, err
		}
	}
	return relay.Identity{}, relay.ErrUnauthenticated
}

// identify asks whose the credentials are. If afresh, earlier answers do not count.
func (a *Authorizer) identify(ctx context.Context, c *credentials, t turn, afresh bool) (relay.Identity, error) {
	return a.users.get(ctx, c.key, afresh, func(ctx context.Context) (relay.Identity, error) {
		id, err := a.api.me(ctx, c, t)
		switch {
		case err == nil:
			a.seen.Load().confirm(c.key, id.Key)
		case errors.Is(err, relay.ErrUnauthenticated):
			a.seen.Load().forget(c.key)
		}
		return id, err
	})
}

// Recheck implements [relay.Authorizer].
func (a *Authorizer) Recheck(ctx context.Context, id relay.Identity) error {
	c, ok := id.Credentials.(*credentials)
	if !ok { // let in by another authorizer, before a change of configuration
		return relay.ErrUnauthenticated
	}
	if c.expired() { // the API would say no to everybody
		if time.Now().Before(c.until) {
			return nil
		}
		return relay.ErrExpired
	}
	now, err := a.identify(ctx, c, ofUser(ofRechecks, id.Key), true)
	switch {
	case err == nil && now.ID != id.ID:
		return relay.ErrUnauthenticated
	case err == nil && now.Kind != id.Kind:
		return relay.ErrChanged
	case errors.Is(err, relay.ErrUnauthenticated) && c.expired(): // while it was asked
		return nil
	}
	return err
}

// Authorize implements [relay.Authorizer].
func (a *Authorizer) Authorize(ctx context.Context, id relay.Identity, kind, item string) error {
	resource := a.resource(kind)
	if resource == "" {
		return a.allowsOther(id, kind, item)
	}
	c, ok := id.Credentials.(*credentials)
	if !ok || !isID(item) {
		return relay.ErrDenied
	}
	if c.expired() { // the API would say no to every object: the client has to come back with a new token
		return relay.ErrExpired
	}
	return a.decide(ctx, c, id.Kind, resource, item, ofUser(ofSubscriptions, id.Key), false)
}

// resource is where the API shows the objects of a kind of group, empty if the API is not asked about it.
func (a *Authorizer) resource(kind string) string {
	resource := checked[kind]
	if resource == "" && a.settings.Strict {
		resource = owned[kind]
	}
	return resource
}

// allowsOther decides about groups that belong to no object.
func (a *Authorizer) allowsOther(id relay.Identity, kind, item string) error {
	switch {
	case !a.settings.Strict:
	case kind == "control" && item != "limit_reached_"+id.Key:
		return relay.ErrOtherUser
	case kind != "control" && a.settings.DenyOthers && !open[kind]:
		return relay.ErrDenied
	}
	return nil
}

// decide asks whether a login may see an object.
func (a *Authorizer) decide(ctx context.Context, c *credentials, kind relay.Kind, resource, item string, t turn, afresh bool) error {
	sees, err := a.objects.get(ctx, c.key+"\x00"+resource+"/"+item, afresh, func(ctx context.Context) (bool, error) {
		return a.api.sees(ctx, c, t, kind, resource, item)
	})
	if err == nil && !sees {
		return relay.ErrDenied
	}
	return err
}

// Rechecks implements [relay.GroupRechecker].
func (a *Authorizer) Rechecks(group string) bool {
	kind, item, _ := strings.Cut(group, "-")
	return a.resource(kind) != "" && isID(item)
}

// RecheckGroup implements [relay.GroupRechecker].
func (a *Authorizer) RecheckGroup(ctx context.Context, id relay.Identity, group string) error {
	c, ok := id.Credentials.(*credentials)
	kind, item, _ := strings.Cut(group, "-")
	resource := a.resource(kind)
	if !ok || resource == "" || c.expired() { // nothing can be found out
		return nil
	}
	err := a.decide(ctx, c, id.Kind, resource, item, ofUser(ofRechecks, id.Key), true)
	if errors.Is(err, relay.ErrDenied) && c.expired() {
		return nil
	}
	return err
}

// Concurrency is how many questions may be under way at once.
func (a *Authorizer) Concurrency() int { return a.api.queue.Slots() }

// isID reports whether item is the decimal form of a database id, and nothing that merely reads as one.
func isID(item string) bool {
	if item == "" || len(item) > 18 || len(item) > 1 && item[0] == '0' {
		return false
	}
	return strings.Trim(item, "0123456789") == ""
}
