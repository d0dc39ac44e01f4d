package guests

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/guest"
	"github.com/edgerelay/edgerelay/relay"
)

func init() {
	caddy.RegisterModule(Keys{})
}

// Keys authenticates clients by an API key in the header "Authorization: Bearer <key>". A user may see the groups of
// the listed kinds: "jobs" allows jobs-1, jobs-2 and so on.
type Keys struct {
	// Users are the users with their keys. Clients without a listed key are rejected.
	Users []KeyUser `json:"users"`
}

// KeyUser is a user of [Keys].
type KeyUser struct {
	// Name is the user's name.
	Name string `json:"name"`
	// Key is the user's API key. May contain placeholders such as {env.ANNS_KEY}.
	Key string `json:"key"`
	// Kinds are the kinds of groups that the user may see.
	Kinds []string `json:"kinds,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (Keys) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "edgerelay.auth.keys", New: func() caddy.Module { return new(Keys) }}
}

// UnmarshalCaddyfile reads
//
//	auth keys {
//		<user> <key> [<kind>...]
//	}
func (k *Keys) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.ArgErr()
	}
	for d.NextBlock(0) {
		u := KeyUser{Name: d.Val()}
		args := d.RemainingArgs()
		if len(args) == 0 {
			return d.Errf("user %s needs a key, such as {env.KEY}", u.Name)
		}
		u.Key, u.Kinds = args[0], args[1:]
		k.Users = append(k.Users, u)
	}
	return nil
}

// Authorizer implements [guest.Auth]. Connections are rechecked every minute: a user without a key is
// disconnected.
func (k *Keys) Authorizer() (relay.Authorizer, time.Duration, error) {
	a := authorizer{}
	for _, u := range k.Users {
		key, err := caddy.NewReplacer().ReplaceOrErr(u.Key, true, true)
		if err != nil {
			return nil, 0, errors.New("auth keys: the key of " + u.Name + ": " + err.Error())
		}
		a[sha256.Sum256([]byte(key))] = u
	}
	return a, time.Minute, nil
}

// authorizer maps the hash of a key to the key's user. The time of a look-up by hash tells an attacker nothing about
// the keys.
type authorizer map[[sha256.Size]byte]KeyUser

// credentials are the hash of the key in the handshake.
type credentials [sha256.Size]byte

// Authenticate implements [relay.Authorizer].
func (a authorizer) Authenticate(r *http.Request) (relay.Identity, error) {
	key, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	hash := sha256.Sum256([]byte(key))
	u, known := a[hash]
	if !ok || !known {
		return relay.Identity{}, relay.ErrUnauthenticated
	}
	id, err := json.Marshal(u.Name)
	return relay.Identity{ID: string(id), Key: u.Name, Name: u.Name, Credentials: credentials(hash)}, err
}

// Authorize implements [relay.Authorizer].
func (a authorizer) Authorize(_ context.Context, id relay.Identity, group string) error {
	kind, _, _ := strings.Cut(group, "-")
	hash, _ := id.Credentials.(credentials)
	for _, allowed := range a[hash].Kinds {
		if allowed == kind {
			return nil
		}
	}
	return relay.ErrDenied
}

// Recheck implements [relay.Authorizer]. After a change of the authenticator, connections of the former authenticator
// have credentials of another type, and are closed.
func (a authorizer) Recheck(_ context.Context, id relay.Identity) error {
	hash, ok := id.Credentials.(credentials)
	if _, known := a[hash]; !ok || !known {
		return relay.ErrUnauthenticated
	}
	return nil
}

// LacksSuperusers implements [guest.UnprivilegedAuth]: no user is a superuser, so the console needs a list of
// operators.
func (*Keys) LacksSuperusers() bool { return true }

// Interface guards.
var (
	_ guest.Auth             = (*Keys)(nil)
	_ guest.UnprivilegedAuth = (*Keys)(nil)
	_ caddyfile.Unmarshaler  = (*Keys)(nil)
)
