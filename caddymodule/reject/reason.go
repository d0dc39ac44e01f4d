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
	// ReasonCount is the number of reasons.
	ReasonCount
)

// String returns the reason as a label of metrics and a value of placeholders.
func (r Reason) String() string {
	return [...]string{
		"bad_handshake", "limit", "pending", "origin", "not_logged_in", "auth_error", "starting",
		"auth_busy", "client_gone", "no_upgrade",
	}[r]
}

// LogLevel returns the level of the log line: info and debug for a client's own action, warn where a setting may be
// wrong, error where a service has failed.
func (r Reason) LogLevel() slog.Level {
	switch r {
	case NotLoggedIn:
		return slog.LevelInfo
	case AuthFailed:
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
		"websocket rejected: invalid handshake",
		"websocket rejected: too many connections",
		"websocket rejected: too many pending handshakes",
		"websocket rejected: origin not allowed",
		"websocket rejected: client not logged in",
		"websocket rejected: authentication unavailable",
		"websocket rejected: relay not ready",
		"websocket rejected: too many authentication requests",
		"client disconnected before authentication",
		"handshake without Upgrade header passed on",
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
	}[r]
}
