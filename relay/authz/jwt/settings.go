package jwt

import (
	"net/http"
	"time"
)

// Settings configure an [Authorizer].
type Settings struct {
	// JWKS is the address of a JSON Web Key Set (RFC 7517), http or https. Either JWKS or Key is given.
	JWKS string
	// Key is a secret, a public key or certificate in PEM form, several of them, or a JSON Web Key or Key Set.
	Key string
	// Algorithms are the accepted values of the header "alg"; empty: all that fit the keys. "none" is never accepted.
	Algorithms []string
	// Sources are the places of the token in a handshake, in the order in which they are searched.
	Sources []Source
	// Audiences and Issuers are the accepted values of the claims "aud" and "iss". Without Issuers, any issuer is
	// accepted. Without Audiences, a token for an audience is rejected (RFC 7519 section 4.1.3).
	Audiences, Issuers []string
	// UserClaim is the path of the claim that identifies the user; NameClaim that of the user's name for logs, or empty.
	UserClaim, NameClaim string
	// GroupsClaim is the path of a claim with a list of patterns of groups, or empty.
	GroupsClaim string
	// Allow are rules for groups, see package rules, with the placeholders {user} and {user.<claim>}.
	Allow []string
	// Leeway is the tolerated difference of clocks, at most [MaxLeeway].
	Leeway time.Duration
	// Endless accepts tokens without the claim "exp".
	Endless bool
	// Refresh is the age from which the key set is fetched again, MaxAge the age from which it no longer counts, and
	// Timeout the bound of one fetch.
	Refresh, MaxAge, Timeout time.Duration
	// Transport fetches the key set; nil: a transport that the authorizer owns.
	Transport http.RoundTripper
}

// MaxLeeway is the greatest [Settings.Leeway].
const MaxLeeway = time.Minute

// DefaultSettings returns the settings of an authorizer that only has keys and rules.
func DefaultSettings() Settings {
	return Settings{
		UserClaim: "sub", Leeway: 10 * time.Second, Refresh: 10 * time.Minute, MaxAge: 24 * time.Hour,
		Timeout: 5 * time.Second,
	}
}

// SourceKind is a kind of place for a token.
type SourceKind uint8

const (
	// FromHeader is a header with the token, with or without "Bearer" before it.
	FromHeader SourceKind = iota
	// FromCookie is a cookie.
	FromCookie
	// FromQuery is a parameter of the query.
	FromQuery
	// FromSubprotocol is an element of the header Sec-WebSocket-Protocol.
	FromSubprotocol
	// FromMessage is the first message of the client.
	FromMessage
)

// Source is a place for a token in a handshake.
type Source struct {
	Kind SourceKind
	// Name is the name of the header, the cookie or the parameter. For FromSubprotocol, it is the element before the
	// token; or, if it ends with a dot, the beginning of the element with the token; or empty: the token is the element
	// that has the form of a token.
	Name string
}
