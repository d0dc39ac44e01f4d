// Package jwt authenticates clients by JSON Web Tokens (RFC 7519), and authorizes groups by the claims of the token.
//
// [NewAuthorizer] returns an [Authorizer]. It finds the token of a handshake (source.go), verifies the signature with
// fixed keys or those of a key set (key.go, keyset.go, verify.go) and checks the claims.
package jwt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/edgerelay/edgerelay/internal/pyjson"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/rules"
)

// Authorizer implements [relay.Authorizer] by tokens. Its methods are safe for concurrent use.
type Authorizer struct {
	settings   Settings
	keys       *keySet
	algorithms []jose.SignatureAlgorithm
	rules      rules.Rules
	accepted   atomic.Uint64
	rejected   atomic.Uint64
	failed     atomic.Uint64
}

var (
	_ relay.Authorizer       = (*Authorizer)(nil)
	_ relay.GroupRechecker   = (*Authorizer)(nil)
	_ relay.Successor        = (*Authorizer)(nil)
	_ relay.TokenAuthorizer  = (*Authorizer)(nil)
	_ relay.ExpiringLogin    = (*credentials)(nil)
	_ relay.SubprotocolLogin = (*credentials)(nil)
	_ relay.ProfiledLogin    = (*credentials)(nil)
)

// NewAuthorizer checks the settings. Its errors name the setting and do not repeat a key.
func NewAuthorizer(s Settings) (*Authorizer, error) {
	if s.Leeway < 0 || s.Leeway > MaxLeeway {
		return nil, fmt.Errorf("auth jwt: leeway %s is out of range; use at most %s", s.Leeway, MaxLeeway)
	}
	if s.UserClaim == "" {
		return nil, errors.New("auth jwt: user is empty; name the claim that identifies the user, such as sub")
	}
	if len(s.Sources) == 0 {
		s.Sources = []Source{{FromHeader, "Authorization"}}
	}
	keys, err := newKeySet(s)
	if err != nil {
		return nil, fmt.Errorf("auth jwt: %w", err)
	}
	a := &Authorizer{settings: s, keys: keys}
	if a.algorithms, err = selectAlgorithms(s.Algorithms, keys); err != nil {
		return nil, fmt.Errorf("auth jwt: algorithms: %w", err)
	}
	if a.rules, err = rules.Parse(s.Allow...); err == nil {
		err = a.rules.CheckUserPlaceholders()
	}
	if err != nil {
		return nil, fmt.Errorf("auth jwt: allow: %w", err)
	}
	return a, nil
}

// selectAlgorithms returns the algorithms with the given names, all without names. A name that fits no key is an error:
// a public key is never the secret of HS256.
func selectAlgorithms(names []string, keys *keySet) (selected []jose.SignatureAlgorithm, err error) {
	for _, known := range allAlgorithms {
		secret := strings.HasPrefix(string(known), "HS")
		if keys.url != "" && secret || len(names) > 0 && !slices.Contains(names, string(known)) {
			continue
		}
		if keys.url == "" && !slices.ContainsFunc(keys.keys, func(k *key) bool { return k.verifies(string(known)) }) {
			continue
		}
		selected = append(selected, known)
	}
	for _, name := range names {
		if slices.Contains(selected, jose.SignatureAlgorithm(name)) {
			continue
		}
		if !slices.Contains(allAlgorithms, jose.SignatureAlgorithm(name)) {
			return nil, fmt.Errorf("unknown algorithm %q; use some of RS256, PS256, ES256, EdDSA, HS256 and their kin", name)
		}
		if keys.url != "" {
			return nil, fmt.Errorf("%s needs a secret, and a key set has public keys only; remove %s", name, name)
		}
		return nil, fmt.Errorf("no key verifies %s; HS needs a secret of as many bytes as its hash, "+
			"and all others a public key of their type", name)
	}
	return selected, nil
}

// Settings returns the settings that NewAuthorizer was called with.
func (a *Authorizer) Settings() Settings { return a.settings }

// Close closes idle connections. The authorizer remains usable.
func (a *Authorizer) Close() { a.keys.close() }

// Succeed implements [relay.Successor]. The keys of the same address need not be fetched again.
func (a *Authorizer) Succeed(before relay.Authorizer) {
	if b, ok := before.(*Authorizer); ok {
		a.keys.succeed(b.keys)
	}
}

// Concurrency returns the greatest number of logins to recheck at once. Rechecks need no request of their own.
func (a *Authorizer) Concurrency() int { return 32 }

// credentials are those of a client with a token. A new token of the client replaces the login.
type credentials struct {
	login       atomic.Pointer[login]
	subprotocol string
}

// login is what counts of a token. It is immutable.
type login struct {
	by       *Authorizer
	payload  string
	print    [32]byte // of the key
	until    time.Time
	id       relay.Identity // without Credentials
	patterns rules.Patterns
}

// Until implements [relay.ExpiringLogin].
func (c *credentials) Until() time.Time { return c.login.Load().until }

// Profile implements [relay.ProfiledLogin].
func (c *credentials) Profile() string { return c.login.Load().payload }

// AnswerSubprotocol implements [relay.SubprotocolLogin].
func (c *credentials) AnswerSubprotocol() string { return c.subprotocol }

// Authenticate implements [relay.Authorizer].
func (a *Authorizer) Authenticate(r *http.Request) (relay.Identity, error) {
	token, subprotocol, awaited := a.find(r)
	switch {
	case awaited:
		return relay.Identity{}, relay.ErrTokenAwaited
	case token == "":
		return relay.Identity{}, relay.ErrUnauthenticated
	}
	return a.authenticate(r.Context(), token, subprotocol)
}

// AuthenticateToken implements [relay.TokenAuthorizer].
func (a *Authorizer) AuthenticateToken(ctx context.Context, token string) (relay.Identity, error) {
	return a.authenticate(ctx, token, "")
}

func (a *Authorizer) authenticate(ctx context.Context, token, subprotocol string) (relay.Identity, error) {
	l, err := a.logIn(ctx, token)
	if err != nil {
		return relay.Identity{}, err
	}
	id := l.id
	c := &credentials{subprotocol: subprotocol}
	c.login.Store(l)
	id.Credentials = c
	return id, nil
}

// logIn checks a token and counts the result.
func (a *Authorizer) logIn(ctx context.Context, token string) (*login, error) {
	payload, by, err := a.verify(ctx, token)
	var l *login
	if err == nil {
		l, err = a.judge(compact(payload), by.print)
	}
	switch {
	case err == nil:
		a.accepted.Add(1)
	case errors.Is(err, relay.ErrUnauthenticated):
		a.rejected.Add(1)
	default:
		a.failed.Add(1)
	}
	return l, err
}

// judge checks the claims of a token with a valid signature.
func (a *Authorizer) judge(payload string, print [32]byte) (*login, error) {
	claims, err := decodeClaims(payload)
	if err != nil {
		return nil, err
	}
	until, err := a.checkClaims(claims, time.Now())
	if err != nil {
		return nil, err
	}
	l := &login{by: a, payload: payload, print: print, until: until}
	if l.id, err = a.identity(claims); err != nil {
		return nil, err
	}
	l.id.Profile = payload
	l.patterns = a.rules.Expand(rules.UserValues(l.id.Key, claims))
	if a.settings.GroupsClaim != "" {
		l.patterns = append(l.patterns, rules.NewPatterns(rules.ClaimValues(claims, a.settings.GroupsClaim))...)
	}
	return l, nil
}

// identity returns the user of claims.
func (a *Authorizer) identity(claims map[string]any) (id relay.Identity, err error) {
	values := rules.ClaimValues(claims, a.settings.UserClaim)
	if len(values) != 1 || values[0] == "" {
		return id, invalid("its claim %s does not name a user; set user to the claim that does", a.settings.UserClaim)
	}
	id.Key, id.Name = values[0], values[0]
	id.ID = string(pyjson.AppendString(nil, id.Key))
	if _, ok := claims[a.settings.UserClaim].(json.Number); ok {
		id.ID = id.Key
	}
	if a.settings.NameClaim != "" {
		if names := rules.ClaimValues(claims, a.settings.NameClaim); len(names) == 1 && names[0] != "" {
			id.Name = names[0]
		}
	}
	return id, nil
}

// Refresh implements [relay.TokenAuthorizer].
func (a *Authorizer) Refresh(ctx context.Context, id relay.Identity, token string) error {
	c, ok := id.Credentials.(*credentials)
	if !ok {
		return relay.ErrUnauthenticated
	}
	l, err := a.logIn(ctx, token)
	if err != nil {
		return err
	}
	if l.id.ID != id.ID {
		return fmt.Errorf("%w: the new token is another user's", relay.ErrUnauthenticated)
	}
	c.login.Store(l)
	return nil
}

// current returns the login of a client under this authorizer's settings. A login under earlier settings is judged
// again. The error is relay.ErrExpired if the client needs a new token.
func (a *Authorizer) current(ctx context.Context, id relay.Identity) (*login, error) {
	c, ok := id.Credentials.(*credentials)
	if !ok { // authenticated by another kind of authorizer, before a change of configuration
		return nil, relay.ErrUnauthenticated
	}
	l := c.login.Load()
	if !l.until.IsZero() && !time.Now().Before(l.until) {
		return nil, relay.ErrExpired
	}
	keys, err := a.keys.current(ctx)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(keys, func(k *key) bool { return k.print == l.print }) {
		return nil, relay.ErrExpired // the key has been withdrawn
	}
	if l.by == a {
		return l, nil
	}
	again, err := a.judge(l.payload, l.print)
	if err != nil || again.id.ID != id.ID {
		return nil, relay.ErrUnauthenticated
	}
	c.login.CompareAndSwap(l, again)
	return again, nil
}

// Recheck implements [relay.Authorizer]. A token whose key has been withdrawn has expired.
func (a *Authorizer) Recheck(ctx context.Context, id relay.Identity) error {
	_, err := a.current(ctx, id)
	return err
}

// Authorize implements [relay.Authorizer].
func (a *Authorizer) Authorize(ctx context.Context, id relay.Identity, group string) error {
	l, err := a.current(ctx, id)
	switch {
	case errors.Is(err, relay.ErrUnauthenticated):
		return relay.ErrDenied
	case err != nil:
		return err
	case l.patterns.Match(group):
		return nil
	case a.rules.Empty() && a.settings.GroupsClaim == "":
		return errNoRules
	}
	return relay.ErrDenied
}

var errNoRules = fmt.Errorf("%w: auth jwt has no rules for groups; add allow or groups_claim", relay.ErrDenied)

// Rechecks implements [relay.GroupRechecker].
func (a *Authorizer) Rechecks(string) bool { return true }

// RecheckGroup implements [relay.GroupRechecker].
func (a *Authorizer) RecheckGroup(ctx context.Context, id relay.Identity, group string) error {
	switch err := a.Authorize(ctx, id, group); {
	case errors.Is(err, relay.ErrExpired): // Recheck has the say
		return nil
	default:
		return err
	}
}

// Stats counts the tokens since the authorizer was created.
type Stats struct {
	// Accepted, Rejected and Failed count tokens; the Failed ones met no keys. Fetches and FailedFetches count requests of
	// the key set, and Keys is the number of keys.
	Accepted, Rejected, Failed uint64
	Fetches, FailedFetches     uint64
	Keys                       int
	// Age is the age of the key set; zero for fixed keys.
	Age time.Duration
}

// Stats returns a snapshot.
func (a *Authorizer) Stats() Stats {
	s := Stats{Accepted: a.accepted.Load(), Rejected: a.rejected.Load(), Failed: a.failed.Load()}
	a.keys.mu.Lock()
	defer a.keys.mu.Unlock()
	s.Fetches, s.FailedFetches, s.Keys = a.keys.fetches, a.keys.failed, len(a.keys.keys)
	if a.keys.url != "" && a.keys.keys != nil {
		s.Age = time.Since(a.keys.fetched)
	}
	return s
}
