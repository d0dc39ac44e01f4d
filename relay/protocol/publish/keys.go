package publish

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/relay/protocol/webhttp"
)

// maxName is the greatest length of a key's name, in bytes.
const maxName = 64

// KeySettings configure a [Key].
type KeySettings struct {
	// Name identifies the key in logs, metrics and tokens: 1 to 64 ASCII letters, digits, '-', '_' or '.'.
	Name string
	// Secrets are the accepted secrets: the current one, and former ones during a rotation.
	Secrets []string
	// Groups are the patterns of the groups that the key may publish to; "*" stands for any run of characters.
	Groups []string
	// Types are the patterns of the types that the key may publish; messages of the form "text" have the type
	// internal.message. Empty: every type that is not reserved. A reserved type must be listed by its full name.
	Types []string
	// Rate is the number of publications a second, counted by message and group; 0 sets no limit. Burst is the number
	// of publications at once; 0 is one second's.
	Rate  float64
	Burst int
}

// Key is a credential of a program that publishes. All methods are safe for concurrent use.
type Key struct {
	settings KeySettings
	// secrets are the secrets in the forms in which publishers use them.
	secrets  []webhttp.Key
	limit    *limiter
	counters *Counters
}

// NewKey checks the settings of a key. The counters may outlive the key.
func NewKey(s KeySettings, c *Counters) (*Key, error) {
	if !validName(s.Name) {
		return nil, fmt.Errorf("key %q: invalid name; use 1 to %d ASCII letters, digits, '-', '_' or '.'", s.Name, maxName)
	}
	if len(s.Groups) == 0 {
		return nil, fmt.Errorf("key %s: no groups; add groups <pattern>…, or groups * for every group", s.Name)
	}
	// Channels of GRIP may have any name. Braces are a placeholder, which is not replaced here and would match nothing.
	for _, list := range [][]string{s.Groups, s.Types} {
		for _, p := range list {
			if _, err := path.Match(p, ""); err != nil || p == "" || strings.ContainsAny(p, "{}") {
				return nil, fmt.Errorf("key %s: invalid pattern %q; use a name such as orders-*, without placeholders", s.Name, p)
			}
		}
	}
	k := &Key{settings: s, counters: c}
	for _, text := range s.Secrets {
		if text == "" {
			return nil, fmt.Errorf("key %s: the secret is empty; set the variable or the file of the placeholder", s.Name)
		}
		k.secrets = append(k.secrets, webhttp.Key{Name: s.Name, Secret: []byte(text)})
		decoded, err := webhttp.ParseKey(text)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", s.Name, err)
		}
		if len(decoded) > 0 && string(decoded) != text { // the libraries of GRIP sign with the bytes
			k.secrets = append(k.secrets, webhttp.Key{Name: s.Name, Secret: decoded})
		}
	}
	if len(k.secrets) == 0 {
		return nil, fmt.Errorf("key %s: no secret; write a placeholder such as {env.PUBLISH_KEY}", s.Name)
	}
	if !(s.Rate >= 0) || math.IsInf(s.Rate, 0) || s.Burst < 0 { // true for NaN
		return nil, fmt.Errorf("key %s: rate %v or burst %d is invalid; use numbers above 0, or leave them out", s.Name,
			s.Rate, s.Burst)
	}
	if s.Rate > 0 {
		k.limit = newLimiter(s.Rate, s.Burst)
	}
	return k, nil
}

func validName(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
}

// Name returns the key's name.
func (k *Key) Name() string { return k.settings.Name }

// Settings returns the settings without the secrets.
func (k *Key) Settings() KeySettings {
	s := k.settings
	s.Secrets = nil
	return s
}

// Counters returns the key's counters.
func (k *Key) Counters() *Counters { return k.counters }

// ShortestSecret returns the length of the key's shortest secret, in bytes.
func (k *Key) ShortestSecret() int {
	shortest := len(k.settings.Secrets[0])
	for _, s := range k.settings.Secrets {
		shortest = min(shortest, len(s))
	}
	return shortest
}

// gripPrefix is the beginning of the names of GRIP's channels as groups.
const gripPrefix = "grip."

// allowsGroup reports whether the key may publish to a group. A channel of GRIP counts by its own name, also if that is
// no name of a group and the group is named by a hash.
func (k *Key) allowsGroup(group string) bool { return matchesAny(k.settings.Groups, group) }

// reservedTypes are the beginnings of types with a meaning of their own: for the consumers of Channels, for AWX's
// nodes, and for this relay. "_" counts like ".": the handler of both websocket.receive and websocket_receive is the
// method websocket_receive.
var reservedTypes = []string{"websocket.", "http.", "consumer.", "presence.", "grip."}

// allowsType reports whether the key may publish messages of a type; "" is internal.message.
func (k *Key) allowsType(kind string, grip bool) bool {
	if kind == "" {
		kind = "internal.message"
	}
	reserved, dotted := false, strings.ReplaceAll(kind, "_", ".")
	for _, prefix := range reservedTypes {
		reserved = reserved || strings.HasPrefix(dotted, prefix)
	}
	reserved = reserved && !grip // the conversion has made the type, and not the client
	if len(k.settings.Types) == 0 {
		return !reserved
	}
	for _, p := range k.settings.Types {
		if p == kind {
			return true
		}
	}
	return !reserved && matchesAny(k.settings.Types, kind)
}

var unslashed = strings.NewReplacer("/", "\x00")

func matchesAny(patterns []string, name string) bool {
	for _, p := range patterns {
		// "*" stands for slashes, too, which only channels of GRIP have.
		if ok, err := path.Match(unslashed.Replace(p), unslashed.Replace(name)); ok && err == nil {
			return true
		}
	}
	return false
}

// Keys are the keys of an endpoint.
type Keys struct {
	list []*Key
	// secrets are the secrets of all keys, owners the key of each.
	secrets []webhttp.Key
	owners  []*Key
	now     func() time.Time
}

// NewKeys returns the keys of an endpoint: at least one, with names and secrets of their own.
func NewKeys(list ...*Key) (*Keys, error) {
	if len(list) == 0 {
		return nil, errors.New("no key; add 'key <name> <secret>', and 'groups <pattern>…' in its block")
	}
	keys := &Keys{list: list, now: time.Now}
	for i, k := range list {
		for _, other := range list[:i] {
			if k.Name() == other.Name() {
				return nil, fmt.Errorf("key %s is given twice; use previous <secret> for a rotation", k.Name())
			}
		}
		for _, s := range k.secrets {
			for j := range keys.secrets {
				if keys.owners[j] != k && bytes.Equal(keys.secrets[j].Secret, s.Secret) {
					return nil, fmt.Errorf("keys %s and %s have the same secret; use one secret for each",
						keys.owners[j].Name(), k.Name())
				}
			}
			keys.secrets = append(keys.secrets, s)
			keys.owners = append(keys.owners, k)
		}
	}
	return keys, nil
}

// List returns the keys.
func (k *Keys) List() []*Key { return k.list }

var (
	errNoCredentials = errors.New("no key; send Authorization: Bearer <key>")
	errWrongKey      = errors.New("the key is not valid here, or the token has expired")
)

// authenticate returns the key of a request: by a secret or a signed token as Bearer, or by name and secret as Basic.
func (k *Keys) authenticate(r *http.Request) (*Key, error) {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return nil, errNoCredentials
	}
	i, err := webhttp.AuthenticatePublisher(values[0], k.secrets, k.now())
	if err != nil {
		return nil, errWrongKey
	}
	return k.owners[i], nil
}
