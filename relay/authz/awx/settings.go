package awx

import (
	"net/http"
	"net/netip"
	"time"
)

// Settings configure an Authorizer.
type Settings struct {
	// URL is the base address of AWX's HTTP API, such as "http://127.0.0.1:8054".
	URL string
	// Strict checks every group that belongs to an object or a user, not only the three kinds that AWX checks itself.
	Strict bool
	// Cache is how long a response is kept.
	Cache time.Duration
	// Timeout bounds one request. Time in the queue does not count.
	Timeout time.Duration
	// Concurrency is the maximum number of requests in flight.
	Concurrency int
	// SessionCookie is the name of Django's session cookie.
	SessionCookie string
	// TokenGrace is how long a login by the platform gateway's token outlives the token. AWX rejects the token during
	// that time, so a logout or a withdrawn permission goes unnoticed.
	TokenGrace time.Duration
	// DenyOthers denies groups of kinds that AWX does not have. It has no effect without Strict.
	DenyOthers bool
	// ClientAddress returns the client's address of a handshake; nil: the peer address of the connection.
	ClientAddress func(*http.Request) netip.Addr
	// Transport sends the requests; nil: a transport that the authorizer owns.
	Transport http.RoundTripper
	// WrapTransport, if not nil, returns the transport to use in place of the given one, for example to trace
	// requests. A request's context carries the values of the handshake or subscription that caused the request.
	WrapTransport func(http.RoundTripper) http.RoundTripper
}

// DefaultSettings returns the settings of an authorizer that only has a URL.
func DefaultSettings() Settings {
	return Settings{
		Strict: true, Cache: 5 * time.Second, Timeout: 5 * time.Second, Concurrency: 32,
		SessionCookie: "awx_sessionid", TokenGrace: 15 * time.Minute,
	}
}
