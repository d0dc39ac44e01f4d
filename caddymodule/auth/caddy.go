package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/internal/pyjson"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/rules"
)

// Caddy takes the user from Caddy's own authentication, such as basic_auth, forward_auth or a plugin's, which set
// {http.auth.user.id}. Rules name the groups that users may see. Caddy does not report the end of a login: the settings
// bound how long a websocket outlives the login.
type Caddy struct {
	// Allow are groups that users may see. In a rule, * stands for any characters, {user} for the user's id and
	// {user.<name>} for {http.auth.user.<name>}; other placeholders of Caddy are allowed, such as {http.vars.team}. A rule
	// with an empty placeholder allows nothing. Default: none, so that users see only the groups that routes grant.
	Allow []string `json:"allow,omitempty" caddyfile:"<group>..."`
	// Lifetime is how long a websocket stays open. After that, the websocket is closed with 1012, so that the client
	// reconnects and authenticates again. Default: no limit.
	Lifetime caddy.Duration `json:"lifetime,omitempty" caddyfile:"<duration>" min:"1"`
	// Expires is a placeholder with the time at which the login ends, such as {http.auth.user.exp}: Unix seconds, or a
	// time in the format of RFC 3339. The websocket is then closed like the websocket of a client that is not logged
	// in. A handshake without such a time is rejected with 503. Default: none.
	Expires string `json:"expires,omitempty" caddyfile:"<placeholder>"`

	log *slog.Logger
}

// CaddyModule returns the Caddy module information.
func (Caddy) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "edgerelay.auth.caddy", New: func() caddy.Module { return new(Caddy) }}
}

// Provision keeps the logger.
func (a *Caddy) Provision(ctx caddy.Context) error {
	a.log = ctx.Slogger()
	return nil
}

// Authorizer implements [guest.Auth].
func (a *Caddy) Authorizer() (relay.Authorizer, time.Duration, error) {
	if err := settings.Check("auth caddy", a); err != nil {
		return nil, 0, err
	}
	if a.Expires != "" && !wholePlaceholder.MatchString(a.Expires) {
		return nil, 0, fmt.Errorf("auth caddy: expires: %q has no placeholder; write one such as {http.auth.user.exp}",
			a.Expires)
	}
	parsed, err := rules.Parse(a.Allow...)
	if err != nil {
		return nil, 0, fmt.Errorf("auth caddy: allow: %w", err)
	}
	if err := checkAllow("auth caddy", a.Allow); err != nil {
		return nil, 0, err
	}
	return &caddyAuthorizer{
		lifetime: time.Duration(a.Lifetime), expires: a.Expires, rules: parsed, source: strings.Join(a.Allow, " "), log: a.log,
	}, 0, nil
}

// wholePlaceholder matches a placeholder of a text.
var wholePlaceholder = regexp.MustCompile(`\{[^{}]+\}`)

// checkAllow returns an error for a rule that matches no group's name, whatever the values of its placeholders are.
func checkAllow(auth string, allow []string) error {
	for _, rule := range allow {
		if !relay.ValidGroup(strings.ReplaceAll(wholePlaceholder.ReplaceAllString(rule, "x"), "*", "x")) {
			return fmt.Errorf("%s: allow: no group has the name %q; use ASCII letters, digits, '-', '_' and '.', "+
				"with * for any characters, as in orders-{user}", auth, rule)
		}
	}
	return nil
}

// LacksSuperusers implements [guest.UnprivilegedAuth].
func (*Caddy) LacksSuperusers() bool { return true }

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
	rules    rules.Rules
	source   string // of the rules
	log      *slog.Logger
	warned   sync.Once
}

// Authenticate implements [relay.Authorizer].
func (a *caddyAuthorizer) Authenticate(r *http.Request) (relay.Identity, error) {
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
	end.rules, end.patterns = a.source, a.rules.Expand(func(name string) []string {
		switch {
		case name == "user":
			name = "http.auth.user.id"
		case strings.HasPrefix(name, "user."):
			name = "http.auth." + name
		}
		value, _ := repl.GetString(name)
		return []string{value}
	})
	id := relay.Identity{Key: user, Name: user, ID: string(pyjson.AppendString(nil, user)), Credentials: end}
	if n, err := strconv.ParseInt(user, 10, 64); err == nil && strconv.FormatInt(n, 10) == user {
		id.ID = user
	}
	return id, nil
}

// end returns when a WebSocket that opens now must end. The time is zero without a limit.
func (a *caddyAuthorizer) end(repl *caddy.Replacer, now time.Time) (end caddyLogin, err error) {
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
			end = caddyLogin{until: at, renew: true}
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
func (a *caddyAuthorizer) Authorize(_ context.Context, id relay.Identity, group string) error {
	login, ok := id.Credentials.(caddyLogin)
	switch {
	case !ok:
		return relay.ErrDenied
	case strings.HasPrefix(group, "control-") && group != "control-limit_reached_"+id.Key:
		return relay.ErrOtherUser
	case login.patterns.Match(group):
		return nil
	case !a.rules.Empty():
		return relay.ErrDenied
	}
	a.warned.Do(func() {
		if a.log != nil {
			a.log.Warn("group denied: auth caddy has no rules", "group", group, "user", id.Name, "remedy", noRulesRemedy)
		}
	})
	return errNoRules
}

// noRulesRemedy tells operators how users get groups.
const noRulesRemedy = "add rules to auth caddy, such as 'allow orders-{user}', or 'allow *' for every group"

var errNoRules = fmt.Errorf("%w: auth caddy has no rules; %s", relay.ErrDenied, noRulesRemedy)

// caddyLogin are the credentials of a client that a caddyAuthorizer has admitted.
type caddyLogin struct {
	until    time.Time // zero: no end
	renew    bool      // the WebSocket's lifetime ends; the login may still be valid
	patterns rules.Patterns
	rules    string // the rules that made the patterns
}

// Until implements [relay.ExpiringLogin].
func (l caddyLogin) Until() time.Time { return l.until }

// Recheck implements [relay.Authorizer]. A client under other rules must reconnect, because the placeholders of its
// handshake are gone.
func (a *caddyAuthorizer) Recheck(_ context.Context, id relay.Identity) error {
	login, ok := id.Credentials.(caddyLogin)
	switch {
	case !ok: // admitted by another authorizer, before a reload
		return relay.ErrUnauthenticated
	case login.rules != a.source:
		return relay.ErrChanged
	case login.until.IsZero() || time.Now().Before(login.until):
		return nil
	case login.renew:
		return relay.ErrExpired
	}
	return relay.ErrUnauthenticated
}

// SameKind implements [relay.KindComparer]: after a change of rules, all clients are rechecked.
func (a *caddyAuthorizer) SameKind(before relay.Authorizer) bool {
	b, ok := before.(*caddyAuthorizer)
	return ok && b.source == a.source
}
