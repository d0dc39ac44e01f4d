package site

import (
	"net/http"
	"net/netip"
	"time"
)

// Settings configure an [Authorizer].
type Settings struct {
	// URL is the address that is asked, http or https.
	URL string
	// Post sends the question as JSON in the body of a POST; otherwise it is a GET with the question in the query.
	Post bool
	// URI sends the path and query of the handshake along. Clients of different URIs then share no response.
	URI bool
	// Headers are the headers of the handshake that are sent along, besides Cookie and Authorization.
	Headers []string
	// Key is a secret by which the site recognizes the relay, in the header X-Edgerelay-Key; or empty.
	Key string
	// Cache is how long a response is kept.
	Cache time.Duration
	// Timeout bounds one request. Time in the queue does not count.
	Timeout time.Duration
	// Concurrency is the maximum number of requests in flight.
	Concurrency int
	// SessionCookie is the name of the cookie that identifies a login.
	SessionCookie string
	// ClientAddress returns the client's address of a handshake; nil: the peer address of the connection.
	ClientAddress func(*http.Request) netip.Addr
	// Transport sends the requests; nil: a transport that the authorizer owns.
	Transport http.RoundTripper
	// WrapTransport, if not nil, returns the transport to use in place of the given one, for example to trace requests.
	WrapTransport func(http.RoundTripper) http.RoundTripper
}

// DefaultSettings returns the settings of an authorizer that only has a URL.
func DefaultSettings() Settings {
	return Settings{
		Cache: 5 * time.Second, Timeout: 5 * time.Second, Concurrency: 32, SessionCookie: "sessionid",
	}
}
