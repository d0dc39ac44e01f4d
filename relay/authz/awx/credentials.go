package awx

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/relay/authz/internal/authority"
)

// gatewayHeader carries the identity token of the platform gateway of AAP 2.5.
const gatewayHeader = "X-DAB-JW-TOKEN"

// maxCredentialBytes bounds the credentials of one handshake, which stay in memory while the client is connected. Web
// servers in front of Django accept no longer headers.
const maxCredentialBytes = 16 << 10

// credentials are a part of a handshake's headers that AWX can authenticate.
// See docs/decisions/protocol-and-authz.md#why-are-api-answers-stored-under-a-digest-of-the-cookies
type credentials struct {
	cookie, authorization, token string
	key                          string // equal for credentials that AWX cannot tell apart
	address                      netip.Addr
	// expires is when the gateway's token ends; zero without a token. AWX rejects the token from then on, even if the
	// user is still logged in at the gateway. The client has to reconnect with a new token at renewAt.
	expires, renewAt time.Time
}

// LoginKey returns a key that all sessions of one login share. The hub looks for this method.
func (c *credentials) LoginKey() string { return c.key }

// Until returns when a login by the gateway's token must be renewed; zero for other logins. The hub looks for this
// method.
func (c *credentials) Until() time.Time { return c.renewAt }

// expired reports whether AWX would reject the credentials only because of their age.
func (c *credentials) expired() bool { return !c.expires.IsZero() && !time.Now().Before(c.expires) }

// candidates returns the credentials to try, in the order of AWX's own WebSockets: the session alone, then the
// gateway's token alone, then everything.
//
// They are tried separately for two reasons. Given both, /api/v2/me/ prefers a bearer token to the session. And only a
// token that AWX has confirmed alone may make a login that outlives the token.
// See docs/decisions/protocol-and-authz.md#why-is-a-session-cookie-looked-up-alone
func (a *Authorizer) candidates(r *http.Request) (list []*credentials, err error) {
	cookie := strings.Join(r.Header.Values("Cookie"), "; ")
	authorization, token := strings.Clone(r.Header.Get("Authorization")), strings.Clone(r.Header.Get(gatewayHeader))
	if len(cookie)+len(authorization)+len(token) > maxCredentialBytes {
		return nil, fmt.Errorf("the handshake's cookies and tokens exceed %d bytes", maxCredentialBytes)
	}
	address := a.settings.ClientAddress(r)
	add := func(c credentials, key string) {
		if key == "" {
			return
		}
		sum := sha256.Sum256([]byte(key)) // keeps long cookies out of the caches
		c.key, c.address = string(sum[:]), address
		list = append(list, &c)
	}
	cookies, session := authority.CookieKey(cookie, a.settings.SessionCookie)
	if session {
		add(credentials{cookie: cookie}, cookies)
	}
	if token != "" {
		c := credentials{token: token, expires: tokenExpiry(token)}
		if !c.expires.IsZero() {
			c.renewAt = c.expires.Add(a.settings.TokenGrace)
		}
		add(c, "token\x00"+token)
	}
	if authorization != "" || !session {
		key := cookies
		if authorization != "" {
			key += "\x00authorization\x00" + authorization
		}
		if token != "" && key != "" {
			key += "\x00token\x00" + token
		}
		add(credentials{cookie: cookie, authorization: authorization, token: token}, key)
	}
	return list, nil
}

// maxExpiry is the latest expiry, in Unix seconds, that is taken seriously. Gateways issue tokens for minutes.
const maxExpiry = 1 << 40

// tokenExpiry returns the expiry in a JSON Web Token, or the zero time. The token is not verified: AWX does that, and
// only its response to the token alone counts.
// See docs/decisions/protocol-and-authz.md#why-may-a-login-outlive-the-gateways-token
func tokenExpiry(token string) time.Time {
	_, rest, _ := strings.Cut(token, ".")
	payload, _, found := strings.Cut(rest, ".")
	if !found {
		return time.Time{}
	}
	text, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(payload, "="))
	if err != nil {
		return time.Time{}
	}
	var claims struct {
		Expires *float64 `json:"exp"`
	}
	if json.NewDecoder(bytes.NewReader(text)).Decode(&claims) != nil || claims.Expires == nil ||
		*claims.Expires <= 0 || *claims.Expires > maxExpiry {
		return time.Time{}
	}
	return time.Unix(int64(*claims.Expires), 0)
}
