package reject

import "log/slog"

// rejection is why a handshake led to no session.
type Reason int

const (
	InvalidHandshake Reason = iota // not sound
	LimitReached
	TooManyPending
	OriginDenied
	NotLoggedIn // not logged in
	AuthFailed  // it could not be found out who it is
	NotReady
	AuthBusy        // too many questions to the authority
	ClientGone      // it hung up before it had an answer
	UpgradeStripped // passed on, since a proxy has taken the header Upgrade away
	ReasonCount
)

// String returns the reason as metrics and placeholders show it.
func (r Reason) String() string {
	return [...]string{
		"bad_handshake", "limit", "pending", "origin", "not_logged_in", "auth_error", "starting",
		"auth_busy", "client_gone", "no_upgrade",
	}[r]
}

// level is the level of the log line: info for what a client does, warn where perhaps a setting should be another.
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

// message is what the log says. Each reason has its own, so that a flood of one does not hide another.
func (r Reason) LogMessage() string {
	return [...]string{
		"a websocket is refused: the handshake is invalid",
		"a websocket is refused: too many connections",
		"a websocket is refused: too many pending handshakes",
		"a websocket is refused: the page's origin may not connect",
		"a websocket is turned away: the client is not logged in",
		"a websocket is refused: it could not be found out who the client is",
		"a websocket is refused: the relay has not started yet",
		"a websocket is refused: too many questions wait for the authority",
		"a client hung up before it was authenticated",
		"handshake without Upgrade header passed on",
	}[r]
}

// remedy is what the operator can do about it.
func (r Reason) Remedy() string {
	const passUpgrade = "let the proxy in front of Caddy speak HTTP/1.1 and pass the headers Upgrade and Connection on"
	return [...]string{
		passUpgrade + "; without a proxy, the client is at fault",
		"raise the limit in edgerelay's limits, if these connections are wanted",
		"if many users share this address, raise pending_per_address in edgerelay's limits; if it is a proxy, set trusted_proxies",
		"add the origin to edgerelay's origins, if the page is yours",
		"log in",
		"see that the API which auth names can be reached from here and answers in time",
		"wait; if it does not start, see what the log says of its configuration",
		"raise concurrency of auth awx if its API can take more; if these are strangers, lower pending_per_address in edgerelay's limits",
		"none: the client is at fault, unless the authority is slow",
		passUpgrade,
	}[r]
}
