package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/internal/pyjson"
	"github.com/edgerelay/edgerelay/relay"
)

// Caddy takes the user from Caddy's own authentication, {http.auth.user.id}, as basic_auth or forward_auth set it.
// Every authenticated user may see every group. Caddy does not tell when a login ends: the settings bound how long a
// websocket outlives it.
type Caddy struct {
	// Lifetime is how long a websocket stays open after its handshake. Then it is closed with 1012, so that the client
	// connects and authenticates again. Default: without end.
	Lifetime caddy.Duration `json:"lifetime,omitempty" caddyfile:"<duration>" min:"1"`
	// Expires is a placeholder that says when the login ends, in Unix seconds or as RFC 3339 writes a time, such as
	// {http.auth.user.exp}; the websocket is closed then, like that of a client that is not logged in. A handshake
	// without such a time is rejected with 503. Default: none.
	Expires string `json:"expires,omitempty" caddyfile:"<placeholder>"`
}

// CaddyModule returns the Caddy module information.
func (Caddy) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "edgerelay.auth.caddy", New: func() caddy.Module { return new(Caddy) }}
}

// Authorizer implements [guest.Auth].
func (a Caddy) Authorizer() (relay.Authorizer, time.Duration, error) {
	if a.Lifetime < 0 {
		return nil, 0, errors.New("auth caddy: lifetime must be above 0")
	}
	return caddyAuthorizer{lifetime: time.Duration(a.Lifetime), expires: a.Expires}, 0, nil
}

// LacksSuperusers implements [guest.UnprivilegedAuth].
func (Caddy) LacksSuperusers() bool { return true }

// UnmarshalCaddyfile reads `auth caddy { … }`.
func (a *Caddy) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.ArgErr()
	}
	return settings.Read(d, "auth caddy", a)
}

// caddyAuthorizer trusts the user that Caddy has authenticated.
type caddyAuthorizer struct {
	lifetime time.Duration // 0: without end
	expires  string        // a placeholder, or empty
}

// Authenticate implements [relay.Authorizer].
func (a caddyAuthorizer) Authenticate(r *http.Request) (relay.Identity, error) {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return relay.Identity{}, errors.New("the request does not come through Caddy")
	}
	user, _ := repl.GetString("http.auth.user.id")
	if user == "" {
		return relay.Identity{}, relay.ErrUnauthenticated
	}
	end, err := a.end(repl, time.Now())
	if err != nil {
		return relay.Identity{}, err
	}
	id := relay.Identity{Key: user, Name: user, ID: string(pyjson.AppendString(nil, user)), Credentials: caddyLogin{}}
	if !end.until.IsZero() {
		id.Credentials = end
	}
	if n, err := strconv.ParseInt(user, 10, 64); err == nil && strconv.FormatInt(n, 10) == user {
		id.ID = user
	}
	return id, nil
}

// end is when a websocket ends whose handshake is now; its time is zero if nothing says so.
func (a caddyAuthorizer) end(repl *caddy.Replacer, now time.Time) (end expiringLogin, err error) {
	if a.expires != "" {
		if end.until, err = parseExpiry(repl.ReplaceAll(a.expires, "")); err != nil {
			return end, fmt.Errorf("auth caddy: expires: %w", err)
		}
		if !now.Before(end.until) {
			return end, relay.ErrUnauthenticated
		}
	}
	if a.lifetime > 0 {
		if at := now.Add(a.lifetime); end.until.IsZero() || at.Before(end.until) {
			end = expiringLogin{until: at, renew: true}
		}
	}
	return end, nil
}

// latestExpiry is the greatest number that is taken for Unix seconds: the year 5138. Greater ones are milliseconds.
const latestExpiry = 100_000_000_000

// parseExpiry reads Unix seconds, or a time as RFC 3339 writes it.
func parseExpiry(value string) (time.Time, error) {
	if seconds, err := strconv.ParseFloat(value, 64); err == nil {
		if !(seconds > 0 && seconds < latestExpiry) { // false for NaN, too
			return time.Time{}, fmt.Errorf("%.40q is no time in Unix seconds", value)
		}
		return time.Unix(int64(seconds), 0), nil
	}
	at, err := time.Parse(time.RFC3339, value)
	if err != nil {
		return at, fmt.Errorf("%.40q is no time; it must be Unix seconds, or like 2026-11-28T10:00:00Z", value)
	}
	return at, nil
}

// Authorize implements [relay.Authorizer].
func (caddyAuthorizer) Authorize(_ context.Context, id relay.Identity, kind, item string) error {
	switch {
	case !isCaddyLogin(id):
		return relay.ErrDenied
	case kind == "control" && item != "limit_reached_"+id.Key:
		return relay.ErrOtherUser
	}
	return nil
}

// caddyLogin marks clients that a caddyAuthorizer has admitted.
type caddyLogin struct{}

// expiringLogin marks clients whose WebSocket ends at a known time.
type expiringLogin struct {
	until time.Time
	renew bool // the lifetime of the websocket is over then; the login may go on
}

// Until has the hub ask at the end of the login.
func (t expiringLogin) Until() time.Time { return t.until }

func isCaddyLogin(id relay.Identity) bool {
	switch id.Credentials.(type) {
	case caddyLogin, expiringLogin:
		return true
	}
	return false
}

// Recheck implements [relay.Authorizer].
func (caddyAuthorizer) Recheck(_ context.Context, id relay.Identity) error {
	if !isCaddyLogin(id) { // let in by another authorizer, before a change of configuration
		return relay.ErrUnauthenticated
	}
	if t, ok := id.Credentials.(expiringLogin); ok && !time.Now().Before(t.until) {
		if t.renew {
			return relay.ErrExpired
		}
		return relay.ErrUnauthenticated
	}
	return nil
}
