package awx

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"
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
	// Transport carries the requests; nil: one of the authorizer's own.
	Transport http.RoundTripper
	// Wrap, if not nil, returns what carries the requests in place of a transport, such as one that traces them. The context of a request
	// has the values of the handshake's or subscription's that asked first.
	Wrap func(http.RoundTripper) http.RoundTripper
}

// DefaultSettings are the settings where nothing else is configured.
func DefaultSettings() Settings {
	return Settings{Strict: true, Cache: 5 * time.Second, Timeout: 5 * time.Second, Concurrency: 32, SessionCookie: "awx_sessionid"}
}

// failureCache is how long a failure to answer is remembered, so that an API in trouble is not asked by everybody at once.
const failureCache = time.Second

// maxCredentials is how many bytes of credentials are taken: they stay in memory as long as the client is
// connected. Servers before Django take no longer header.
const maxCredentials = 16 << 10

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
		"system_job_events":       "system_jobs",
	}
)

// Authorizer asks AWX's HTTP API, with the credentials of the client's own handshake. It implements [relay.Authorizer].
type Authorizer struct {
	settings Settings
	api      *api
	users    *cache[relay.Identity]
	objects  *cache[bool]
}

var _ relay.Authorizer = (*Authorizer)(nil)

// credentials are what a handshake proved its user's identity with.
type credentials struct {
	cookie, authorization string
	key                   string // equal for handshakes that must get the same answers; empty without credentials
}

// NewAuthorizer returns an authorizer, or an error that says what is wrong with the URL.
func NewAuthorizer(s Settings) (*Authorizer, error) {
	api, err := newAPI(s)
	if err != nil {
		return nil, err
	}
	keep := func(err error) time.Duration {
		if err != nil && !errors.Is(err, relay.ErrUnauthenticated) {
			return min(failureCache, s.Cache)
		}
		return s.Cache
	}
	return &Authorizer{
		settings: s,
		api:      api,
		users:    newCache(func(_ relay.Identity, err error) time.Duration { return keep(err) }, func(relay.Identity) bool { return true }),
		objects:  newCache(func(_ bool, err error) time.Duration { return keep(err) }, func(sees bool) bool { return sees }),
	}, nil
}

// Settings are what the authorizer was made with.
func (a *Authorizer) Settings() Settings { return a.settings }

// Close gives up idle connections to the API.
func (a *Authorizer) Close() { a.api.close() }

// Authenticate implements [relay.Authorizer] by GET /api/v2/me/.
func (a *Authorizer) Authenticate(r *http.Request) (relay.Identity, error) {
	c := a.credentials(r)
	if c.key == "" {
		return relay.Identity{}, relay.ErrUnauthenticated
	}
	if len(c.cookie)+len(c.authorization) > maxCredentials {
		return relay.Identity{}, fmt.Errorf("the cookies of the handshake are longer than %d bytes", maxCredentials)
	}
	return a.identify(r.Context(), c)
}

func (a *Authorizer) identify(ctx context.Context, c *credentials) (relay.Identity, error) {
	return a.users.get(ctx, c.key, func(ctx context.Context) (relay.Identity, error) { return a.api.me(ctx, c) })
}

// Recheck implements [relay.Authorizer].
func (a *Authorizer) Recheck(ctx context.Context, id relay.Identity) error {
	c, ok := id.Credentials.(*credentials)
	if !ok { // let in by another authorizer, before a change of configuration
		return relay.ErrUnauthenticated
	}
	now, err := a.identify(ctx, c)
	switch {
	case err == nil && now.ID != id.ID:
		return relay.ErrUnauthenticated
	case err == nil && now.Kind != id.Kind:
		return relay.ErrChanged
	}
	return err
}

// Authorize implements [relay.Authorizer].
func (a *Authorizer) Authorize(ctx context.Context, id relay.Identity, kind, item string) error {
	resource := checked[kind]
	if resource == "" && a.settings.Strict {
		resource = owned[kind]
		if kind == "control" && item != "limit_reached_"+id.Key {
			return relay.ErrDenied
		}
	}
	if resource == "" {
		return nil
	}
	c, ok := id.Credentials.(*credentials)
	if !ok || !isID(item) {
		return relay.ErrDenied
	}
	sees, err := a.objects.get(ctx, c.key+"\x00"+resource+"/"+item, func(ctx context.Context) (bool, error) {
		return a.api.sees(ctx, c, resource, item)
	})
	if err == nil && !sees {
		return relay.ErrDenied
	}
	return err
}

// isID reports whether item is the decimal form of a database id, and nothing that merely reads as one.
func isID(item string) bool {
	if item == "" || len(item) > 18 || len(item) > 1 && item[0] == '0' {
		return false
	}
	return strings.Trim(item, "0123456789") == ""
}

// credentials takes from a handshake what the API is shown. Handshakes with the same session cookie (or the same
// other cookies, where that one is missing or there twice) share their answers.
func (a *Authorizer) credentials(r *http.Request) *credentials {
	c := &credentials{
		cookie:        strings.Join(r.Header.Values("Cookie"), "; "),
		authorization: strings.Clone(r.Header.Get("Authorization")),
	}
	var key string
	var sessions, others []string
	empty := false // the session cookie, if there is one
	// Not r.Cookies: it leaves out what Django reads, and then two logins could look the same.
	for pair := range strings.SplitSeq(c.cookie, ";") {
		pair = strings.TrimSpace(pair)
		name, value, _ := strings.Cut(pair, "=")
		switch name = strings.TrimSpace(name); {
		case name == "csrftoken" || name == "":
		case name == a.settings.SessionCookie:
			sessions = append(sessions, pair)
			empty = strings.Trim(value, `" `) == ""
		default:
			others = append(others, pair)
		}
	}
	switch {
	case len(sessions) == 1 && !empty:
		key = "session\x00" + sessions[0]
	case len(sessions) > 1:
		key = "cookies\x00" + c.cookie
	case len(sessions)+len(others) > 0:
		key = "cookies\x00" + strings.Join(append(others, sessions...), "; ")
	}
	if c.authorization != "" {
		key += "\x00authorization\x00" + c.authorization
	}
	if key != "" { // a digest: who sends long cookies must not fill the cache with them
		sum := sha256.Sum256([]byte(key))
		c.key = string(sum[:])
	}
	return c
}
