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
)

// gatewayHeader carries the token by which the platform gateway of AAP 2.5 says who sends a request.
const gatewayHeader = "X-DAB-JW-TOKEN"

// maxCredentials is how many bytes of credentials are taken: they stay in memory as long as the client is
// connected. Servers before Django take no longer header.
const maxCredentials = 16 << 10

// credentials are what a handshake proved its user's identity with.
type credentials struct {
	cookie, authorization, token string
	key                          string // equal for credentials that must get the same answers; empty without any
	address                      netip.Addr
	// expires is when the gateway's token ends, zero if there is none: the API confirms it no longer then, whether or
	// not the user is still logged in at the gateway. until is when the client has to come back with a new one.
	expires, until time.Time
}

// LoginKey is the same for all sessions of one login.
func (c *credentials) LoginKey() string { return c.key }

// Until is when a login by the gateway's token ends; zero for all others.
func (c *credentials) Until() time.Time { return c.until }

// expired reports whether the API would refuse the credentials for their age alone.
func (c *credentials) expired() bool { return !c.expires.IsZero() && !time.Now().Before(c.expires) }

// candidates are what a handshake may be authenticated by, in AWX's own order for websockets: the session alone, then
// the gateway's token alone, then all that the client has sent. They are tried one by one, since /api/v2/me/ would take
// a bearer token before the session, and nothing but the token itself may make a login that is allowed to outlive its
// token.
func (a *Authorizer) candidates(r *http.Request) (list []*credentials, err error) {
	cookie := strings.Join(r.Header.Values("Cookie"), "; ")
	authorization, token := strings.Clone(r.Header.Get("Authorization")), strings.Clone(r.Header.Get(gatewayHeader))
	if len(cookie)+len(authorization)+len(token) > maxCredentials {
		return nil, fmt.Errorf("the cookies and tokens of the handshake are longer than %d bytes", maxCredentials)
	}
	address := a.settings.ClientAddress(r)
	add := func(c credentials, key string) {
		if key == "" {
			return
		}
		sum := sha256.Sum256([]byte(key)) // whoever sends long cookies must not fill the cache with them
		c.key, c.address = string(sum[:]), address
		list = append(list, &c)
	}
	cookies, session := cookieKey(cookie, a.settings.SessionCookie)
	if session {
		add(credentials{cookie: cookie}, cookies)
	}
	if token != "" {
		c := credentials{token: token, expires: tokenExpiry(token)}
		if !c.expires.IsZero() {
			c.until = c.expires.Add(a.settings.TokenGrace)
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

// cookieKey is the same for Cookie headers that must get the same answers: those with the same session cookie, or the
// same other cookies, where that one is missing or there twice. session reports whether there is a session cookie.
func cookieKey(header, sessionCookie string) (key string, session bool) {
	var sessions, others []string
	empty := false // the session cookie, if there is one
	// Not r.Cookies: it leaves out what Django reads, and then two logins could look the same.
	for pair := range strings.SplitSeq(header, ";") {
		pair = strings.TrimSpace(pair)
		name, value, _ := strings.Cut(pair, "=")
		switch name = strings.TrimSpace(name); {
		case name == "csrftoken" || name == "":
		case name == sessionCookie:
			sessions = append(sessions, pair)
			empty = strings.Trim(value, `" `) == ""
		default:
			others = append(others, pair)
		}
	}
	switch {
	case len(sessions) == 1 && !empty:
		return "session\x00" + sessions[0], true
	case len(sessions) > 1:
		return "cookies\x00" + header, true
	case len(sessions)+len(others) > 0:
		return "cookies\x00" + strings.Join(append(others, sessions...), "; "), false
	}
	return "", false
}

// latestExpiry is the greatest time that a token may name: later ones are none that a gateway writes.
const latestExpiry = 1 << 40

// tokenExpiry is the time at which a JSON Web Token expires by its own account, zero if it names none. Nothing is
// verified: AWX does that, and its answer to the token alone decides.
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
		*claims.Expires <= 0 || *claims.Expires > latestExpiry {
		return time.Time{}
	}
	return time.Unix(int64(*claims.Expires), 0)
}
