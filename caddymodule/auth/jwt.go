package auth

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/placeholders"
	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/jwt"
)

// JWT authenticates clients by JSON Web Tokens, and lets users see the groups that its rules and the claims of the
// token name. The end of the token ends the websocket with 1012.
type JWT struct {
	// JWKS is the address of the issuer's key set, such as https://id.example.com/.well-known/jwks.json. One of `jwks`,
	// `key` and `key_file` is required.
	JWKS string `json:"jwks,omitempty" caddyfile:"<url>"`
	// Key is the key that verifies tokens: a secret of at least 32 bytes, or a public key or certificate as PEM. Write a
	// placeholder such as {env.JWT_KEY}.
	Key string `json:"key,omitempty" caddyfile:"<secret or PEM>"`
	// KeyFile is a file with the key: a secret, public keys or certificates as PEM, or a JSON Web Key Set. It is read when
	// the configuration is loaded.
	KeyFile string `json:"key_file,omitempty" caddyfile:"<path>"`
	// Algorithms are the accepted signature algorithms. Default: all of RS, PS, ES, EdDSA and HS (256 to 512) that fit the
	// type of the keys.
	Algorithms []string `json:"algorithms,omitempty" caddyfile:"<name>..."`
	// From is a place of the token; several places are searched in order. `header` is a header, by default Authorization,
	// with or without "Bearer". `query` is a parameter of the query, which also appears in access logs. `subprotocol` is
	// the element of Sec-WebSocket-Protocol after the element <name>, or, without a name, the element in the form of a
	// token. `message` is the first message. Default: header Authorization.
	From []TokenSource `json:"from,omitempty" caddyfile:"header|cookie|query|subprotocol|message [<name>]"`
	// Audience are the accepted audiences, the claim `aud`. Default: none, so that tokens for an audience are rejected.
	Audience []string `json:"audience,omitempty" caddyfile:"<value>..."`
	// Issuer are the accepted issuers, the claim `iss`. Default: any.
	Issuer []string `json:"issuer,omitempty" caddyfile:"<value>..."`
	// User is the claim that identifies the user; a path such as user.id leads through objects. Default: sub.
	User string `json:"user,omitempty" caddyfile:"<claim>"`
	// Name is the claim with the user's name in logs. Default: the claim of `user`.
	Name string `json:"name,omitempty" caddyfile:"<claim>"`
	// GroupsClaim is a claim with a list of groups that the user may see, in which * stands for any characters. Default:
	// none.
	GroupsClaim string `json:"groups_claim,omitempty" caddyfile:"<claim>"`
	// Allow are groups that users may see, in which * stands for any characters, and {user} and {user.<claim>} for values
	// of the token, such as orders-{user} or org-{user.org}-*. Default: none; without rules, a user sees only the groups
	// that a route grants.
	Allow []string `json:"allow,omitempty" caddyfile:"<group>..."`
	// Refresh is the member of a JSON message by which a client replaces its token, as in {"token": "…"}. off: messages
	// are not looked at. Default: off.
	Refresh string `json:"refresh,omitempty" caddyfile:"<member>|off"`
	// FirstMessageTimeout is how long a client without a token may take to send one, with `from message`. Default: 10s.
	FirstMessageTimeout caddy.Duration `json:"first_message_timeout,omitempty" caddyfile:"<duration>" min:"1"`
	// Leeway is the tolerated difference of clocks, at most 60s. Default: 10s.
	Leeway *caddy.Duration `json:"leeway,omitempty" caddyfile:"<duration>"`
	// Endless accepts tokens without an end, the claim `exp`. Default: false.
	Endless bool `json:"endless,omitempty" caddyfile:"on|off"`
	// Recheck is the time between rechecks: whether a token's key is still in the key set, and, after a reload, whether
	// the new settings accept the token. Default: 60s; off: never.
	Recheck settings.DurationOrOff `json:"recheck,omitempty" caddyfile:"<duration>|off" min:"1"`
	// RecheckGrace is how long a websocket stays open without usable keys, see `key_max_age`. After that, the websocket is
	// closed with 1013. 0 closes the websocket at the first recheck without keys; off: never. Default: 5m, or twice
	// recheck if that is longer.
	RecheckGrace *settings.DurationOrOff `json:"recheck_grace,omitempty" caddyfile:"<duration>|0|off" min:"1"`
	// KeyRefresh is the age from which the key set is fetched again. A token with an unknown key fetches it at once, at
	// most once a minute. Default: 10m.
	KeyRefresh caddy.Duration `json:"key_refresh,omitempty" caddyfile:"<duration>" min:"1"`
	// KeyMaxAge is how long the keys stay in use while the address does not answer. Default: 24h.
	KeyMaxAge caddy.Duration `json:"key_max_age,omitempty" caddyfile:"<duration>" min:"1"`
	// Timeout bounds a request for the key set. Default: 5s.
	Timeout caddy.Duration `json:"timeout,omitempty" caddyfile:"<duration>" min:"1"`

	authorizer   *jwt.Authorizer
	every, grace time.Duration
}

// TokenSource is a place of a token.
type TokenSource struct {
	// Kind is `header`, `cookie`, `query`, `subprotocol` or `message`.
	Kind string `json:"kind"`
	// Name is the name of the header, the cookie or the parameter; for a subprotocol, the element before the token.
	Name string `json:"name,omitempty"`
}

// sourceKinds are the kinds of a [TokenSource].
var sourceKinds = map[string]jwt.SourceKind{
	"header": jwt.FromHeader, "cookie": jwt.FromCookie, "query": jwt.FromQuery, "subprotocol": jwt.FromSubprotocol,
	"message": jwt.FromMessage,
}

// CaddyModule returns the Caddy module information.
func (JWT) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "edgerelay.auth.jwt", New: func() caddy.Module { return new(JWT) }}
}

// Provision checks the settings and reads the key.
func (j *JWT) Provision(caddy.Context) (err error) {
	if err := settings.Check("auth jwt", j); err != nil {
		return err
	}
	s := jwt.DefaultSettings()
	repl := placeholders.New()
	s.JWKS, s.Key = repl.In("jwks", j.JWKS), repl.In("key", j.Key)
	file := repl.In("key_file", j.KeyFile)
	for _, a := range j.Audience {
		s.Audiences = append(s.Audiences, repl.In("audience", a))
	}
	for _, i := range j.Issuer {
		s.Issuers = append(s.Issuers, repl.In("issuer", i))
	}
	if err := repl.Err(); err != nil {
		return fmt.Errorf("auth jwt: %w", err)
	}
	if err := settings.CheckURLPort(s.JWKS); err != nil {
		return fmt.Errorf("auth jwt: jwks: %w", err)
	}
	if err := checkAllow("auth jwt", j.Allow); err != nil {
		return err
	}
	if file != "" {
		if s.Key != "" {
			return errors.New("auth jwt: key and key_file are both given; remove one")
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("auth jwt: key_file: %w", err)
		}
		s.Key = strings.TrimRight(string(text), "\r\n")
	}
	if strings.Contains(s.Key, "-----BEGIN") && !strings.Contains(s.Key, "\n") {
		s.Key = strings.ReplaceAll(s.Key, `\n`, "\n") // as environment variables often have it
	}
	if s.Sources, err = j.sources(); err != nil {
		return err
	}
	s.Algorithms = j.Algorithms
	s.NameClaim, s.GroupsClaim, s.Allow, s.Endless = j.Name, j.GroupsClaim, j.Allow, j.Endless
	if j.User != "" {
		s.UserClaim = j.User
	}
	if j.Leeway != nil {
		s.Leeway = time.Duration(*j.Leeway)
	}
	for _, d := range []struct {
		from caddy.Duration
		to   *time.Duration
	}{{j.KeyRefresh, &s.Refresh}, {j.KeyMaxAge, &s.MaxAge}, {j.Timeout, &s.Timeout}} {
		if d.from > 0 {
			*d.to = time.Duration(d.from)
		}
	}
	if s.MaxAge < s.Refresh {
		return fmt.Errorf("auth jwt: key_max_age %s is shorter than key_refresh %s; set a longer time", s.MaxAge, s.Refresh)
	}
	if j.every, j.grace, err = recheckTimes("auth jwt", j.Recheck, j.RecheckGrace); err != nil {
		return err
	}
	j.authorizer, err = jwt.NewAuthorizer(s)
	return err
}

// unknownPlace is the error for a kind of [TokenSource] that is none.
func unknownPlace(kind string) error {
	return fmt.Errorf("auth jwt: from: unknown place %q; %s", kind, settings.Remedy(kind,
		slices.Sorted(maps.Keys(sourceKinds)), "use header, cookie, query, subprotocol or message"))
}

// sources returns the places of the token.
func (j *JWT) sources() (list []jwt.Source, err error) {
	for _, from := range j.From {
		kind, ok := sourceKinds[from.Kind]
		switch {
		case !ok:
			return nil, unknownPlace(from.Kind)
		case from.Kind == "header" && from.Name == "":
			from.Name = "Authorization"
		case from.Name == "" && (from.Kind == "cookie" || from.Kind == "query"):
			return nil, fmt.Errorf("auth jwt: from %s needs a name", from.Kind)
		case from.Name != "" && from.Kind == "message":
			return nil, errors.New("auth jwt: from message takes no name")
		}
		if (from.Kind == "header" || from.Kind == "cookie") && from.Name != "" {
			if err := settings.CheckNames("auth jwt: from "+from.Kind, from.Name); err != nil {
				return nil, err
			}
		}
		list = append(list, jwt.Source{Kind: kind, Name: from.Name})
	}
	return list, nil
}

// Authorizer implements [guest.Auth].
func (j *JWT) Authorizer() (relay.Authorizer, time.Duration, error) {
	return j.authorizer, j.every, nil
}

// Grace implements [guest.RecheckGracer].
func (j *JWT) Grace() time.Duration { return j.grace }

// defaultFirstMessage is the time for a first message, unless it is configured.
const defaultFirstMessage = 10 * time.Second

// RefreshMember implements [guest.TokenAuth].
func (j *JWT) RefreshMember() string {
	if j.Refresh == "off" {
		return ""
	}
	return j.Refresh
}

// FirstMessage implements [guest.TokenAuth].
func (j *JWT) FirstMessage() time.Duration {
	if j.FirstMessageTimeout > 0 {
		return time.Duration(j.FirstMessageTimeout)
	}
	return defaultFirstMessage
}

// LacksSuperusers implements [guest.UnprivilegedAuth].
func (*JWT) LacksSuperusers() bool { return true }

// Cleanup closes the connections to the issuer.
func (j *JWT) Cleanup() error {
	if j.authorizer != nil {
		j.authorizer.Close()
	}
	return nil
}

// UnmarshalCaddyfile reads `auth jwt { … }`.
func (j *JWT) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.ArgErr()
	}
	return settings.Read(d, "auth jwt", j)
}

// ReadSetting implements [settings.Reader] for from.
func (j *JWT) ReadSetting(d *caddyfile.Dispenser) (known bool, err error) {
	if d.Val() != "from" {
		return false, nil
	}
	args := d.RemainingArgs()
	if len(args) == 0 || len(args) > 2 {
		return true, d.Err("from takes header, cookie, query, subprotocol or message, and a name")
	}
	from := TokenSource{Kind: args[0]}
	if _, ok := sourceKinds[from.Kind]; !ok {
		return true, d.Err(unknownPlace(from.Kind).Error())
	}
	if len(args) == 2 {
		from.Name = args[1]
	}
	j.From = append(j.From, from)
	return true, nil
}
