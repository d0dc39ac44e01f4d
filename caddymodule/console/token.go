package console

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/relay"
)

// tokenHeader carries the token of an action. Another site cannot set it without a preflight, which fails.
const tokenHeader = "X-Edgerelay-Token" //nolint:gosec // a name

// tokenLifetime is the time for which a token is valid. The page gets one when a dialog opens.
const tokenLifetime = 15 * time.Minute

// tokens makes and checks the tokens of actions. A token belongs to a process, a user and the user's login: behind a
// load balancer, an action therefore never reaches another node than the one that the operator has looked at.
type tokens struct{ key [sha256.Size]byte }

// tokensOf returns the tokens of a node, which survive reloads.
func tokensOf(n *node.Node) *tokens {
	type key struct{}
	return n.Extension(key{}, func() any {
		t := new(tokens)
		_, _ = rand.Read(t.key[:]) // never fails
		return t
	}).(*tokens)
}

// issue returns a token for the request's user.
func (t *tokens) issue(r *http.Request, id relay.Identity, now time.Time) string {
	ends := now.Add(tokenLifetime).Unix()
	b := binary.BigEndian.AppendUint64(nil, uint64(ends))
	return base64.RawURLEncoding.EncodeToString(t.sign(b, r, id))
}

// valid reports whether the request has a token of its user that has not expired.
func (t *tokens) valid(r *http.Request, id relay.Identity, now time.Time) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(r.Header.Get(tokenHeader))
	if err != nil || len(b) != 8+sha256.Size {
		return false
	}
	ends := int64(binary.BigEndian.Uint64(b))
	return hmac.Equal(b, t.sign(b[:8:8], r, id)) && now.Unix() < ends
}

// sign appends the signature of the end, the user and the login.
func (t *tokens) sign(ends []byte, r *http.Request, id relay.Identity) []byte {
	mac := hmac.New(sha256.New, t.key[:])
	mac.Write(ends)
	for _, text := range []string{
		id.Key, id.Name, id.Kind.String(),
		strings.Join(r.Header.Values("Cookie"), "; "), strings.Join(r.Header.Values("Authorization"), ", "),
	} {
		mac.Write(binary.BigEndian.AppendUint64(nil, uint64(len(text))))
		mac.Write([]byte(text))
	}
	return mac.Sum(ends)
}
