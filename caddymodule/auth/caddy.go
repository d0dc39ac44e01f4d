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

// Caddy takes the user from Caddy's own authentication, such as basic_auth or forward_auth, which set
// {http.auth.user.id}. Every authenticated user may see every group. Caddy does not report the end of a login: the
// settings bound how long a websocket outlives the login.
type Caddy struct {
	// Lifetime is how long a websocket stays open. After that, the websocket is closed with 1012, so that the client
	// reconnects and authenticates again. Default: no limit.
	Lifetime caddy.Duration `json:"lifetime,omitempty" caddyfile:"<duration>" min:"1"`
	// Expires is a placeholder with the time at which the login ends, such as {http.auth.user.exp}: Unix seconds, or a
	// time in the format of RFC 3339. The websocket is then closed like the websocket of a client that is not logged
	// in. A handshake without such a time is rejected with 503. Default: none.
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
	lifetime time.Duration // 0: no limit
	expires  string        // a placeholder, or empty
}

// Authenticate implements [relay.Authorizer].
func (a caddyAuthorizer) Authenticate(r *http.Request) (relay.Identity, error) {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return relay.Identity{}, errors.New("request without Caddy's replacer")
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

// end returns when a WebSocket that opens now must end. The time is zero without a limit.
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

// latestExpiry bounds Unix seconds, at the year 5138. A greater number is in milliseconds.
const latestExpiry = 100_000_000_000

// parseExpiry parses Unix seconds, or a time in the format of RFC 3339.
func parseExpiry(value string) (time.Time, error) {
	if seconds, err := strconv.ParseFloat(value, 64); err == nil {
		if !(seconds > 0 && seconds < latestExpiry) { // false for NaN, too
			return time.Time{}, fmt.Errorf("invalid Unix time %.40q; use seconds", value)
		}
		return time.Unix(int64(seconds), 0), nil
	}
	at, err := time.Parse(time.RFC3339, value)
	if err != nil {
		return at, fmt.Errorf("invalid time %.40q; use Unix seconds, or a value such as 2026-11-28T10:00:00Z", value)
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

// expiringLogin marks clients with a WebSocket that ends at a known time.
type expiringLogin struct {
	until time.Time
	renew bool // the WebSocket's lifetime ends; the login may still be valid
}

// Until returns when the hub must recheck the client.
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
	if !isCaddyLogin(id) { // admitted by another authorizer, before a reload
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
