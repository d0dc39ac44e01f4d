// Package reject answers, counts and describes handshakes that lead to no session.
package reject

import "log/slog"

// Reason is the reason for a rejected handshake.
type Reason int

// The reasons, in the order of [Reason.String].
const (
	// InvalidHandshake is a request that violates RFC 6455.
	InvalidHandshake Reason = iota
	// LimitReached is a limit on open connections, or a lack of file descriptors.
	LimitReached
	// TooManyPending is a limit on handshakes without an authenticated client yet.
	TooManyPending
	// OriginDenied is a page of another site.
	OriginDenied
	// NotLoggedIn is a client without a valid login.
	NotLoggedIn
	// AuthFailed is an authority that did not answer.
	AuthFailed
	// NotReady is a node without a current configuration.
	NotReady
	// AuthBusy is a full queue of requests to the authority.
	AuthBusy
	// ClientGone is a client that disconnected before the authority answered.
	ClientGone
	// UpgradeStripped is a handshake that lost the Upgrade header at a proxy. The next handler answers the request.
	UpgradeStripped
	// GroupDenied is a client of a route that may not be in one of its groups.
	GroupDenied
	// GroupInvalid is a request of which a route cannot make the name of a group.
	GroupInvalid
	// BackendRejected is a handshake that the backend of a route has rejected.
	BackendRejected
	// BackendFailed is a backend of a route that did not answer a handshake as it should.
	BackendFailed
	// InvalidRequest is a request for an event stream or a long poll that cannot be served.
	InvalidRequest
	// ConnectRejected is an extended CONNECT, of HTTP/2 or HTTP/3, that the relay does not serve.
	ConnectRejected
	// FunctionRefused is a client that the function of a route has refused.
	FunctionRefused
	// FunctionFailed is a function of a route that could not decide about a client.
	FunctionFailed
	// ReasonCount is the number of reasons.
	ReasonCount
)

// String returns the reason as a label of metrics and a value of placeholders.
func (r Reason) String() string {
	return [...]string{
		"bad_handshake", "limit", "pending", "origin", "not_logged_in", "auth_error", "starting",
		"auth_busy", "client_gone", "no_upgrade", "group_denied", "group_invalid",
		"backend_rejected", "backend_error", "bad_request", "extended_connect",
		"function_refused", "function_error",
	}[r]
}

// LogLevel returns the level of the log line: info and debug for a client's own action, warn where a setting may be
// wrong, error where a service has failed.
func (r Reason) LogLevel() slog.Level {
	switch r {
	case NotLoggedIn, GroupDenied, GroupInvalid, BackendRejected, FunctionRefused:
		return slog.LevelInfo
	case AuthFailed, BackendFailed, FunctionFailed:
		return slog.LevelError
	case ClientGone:
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

// LogMessage returns the message of the log line. Each reason has its own, because the log is throttled by message: a
// flood of one reason must not hide another.
func (r Reason) LogMessage() string {
	return [...]string{
		"client rejected: invalid handshake",
		"client rejected: too many connections",
		"client rejected: too many pending handshakes",
		"client rejected: origin not allowed",
		"client rejected: client not logged in",
		"client rejected: authentication unavailable",
		"client rejected: relay not ready",
		"client rejected: too many authentication requests",
		"client disconnected before authentication",
		"handshake without Upgrade header passed on",
		"client rejected: group not allowed",
		"client rejected: invalid group",
		"client rejected: backend refuses",
		"client rejected: backend unavailable",
		"event stream or long poll rejected: invalid request",
		"client rejected: extended CONNECT",
		"client rejected: function refuses",
		"client rejected: function failed",
	}[r]
}

// Remedy returns an instruction for the operator.
func (r Reason) Remedy() string {
	const passUpgrade = "let the proxy in front of Caddy use HTTP/1.1 and pass the headers Upgrade and Connection on"
	return [...]string{
		passUpgrade + "; without a proxy, the client is at fault",
		"if these connections are wanted, raise the limit in edgerelay's limits",
		"if many users share this address, raise pending_per_address in edgerelay's limits; " +
			"if the address is a proxy's, set trusted_proxies",
		"if the page is yours, add its origin to edgerelay's origins",
		"log in",
		"check that the API named by auth is reachable from this host and answers in time",
		"wait; if the relay does not start, look for the configuration's error in the log",
		"if the API can take more requests, raise concurrency of auth awx; " +
			"if the clients are unknown, lower pending_per_address in edgerelay's limits",
		"none: the client is at fault, unless the authority is slow",
		passUpgrade,
		"if the client should be in the group, let auth allow it; a route grants groups of {user} alone",
		"if the path or query is valid on the site, narrow the parameter, as in {id:[0-9]+}, or change the route's groups",
		"if the client should be accepted, look at the site's view",
		"check that the site of messages backend is reachable from this host, answers in time, and accepts with OPEN",
		"correct the client's request, see docs/event-streams.md",
		"set extended_connect on in edgerelay, or let the client use HTTP/1.1",
		"if the client should be accepted, look at the plugin's on_connect",
		"see the plugin's log and health, as with: caddy edgerelay plugin list",
	}[r]
}
