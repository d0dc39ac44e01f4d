package caddymodule

// rejection is why a handshake led to no session.
type rejection int

const (
	badHandshake rejection = iota // not sound
	rejectedLimit
	rejectedOrigin
	rejectedNobody // not logged in
	rejectedAuth   // it could not be found out who it is
	rejectedStarting
	rejectedBusy // too many questions to the authority
	clientGone   // it hung up before it had an answer
	rejections
)

// String returns the reason as metrics show it.
func (r rejection) String() string {
	return [...]string{"bad_handshake", "limit", "origin", "not_logged_in", "auth_error", "starting", "auth_busy", "client_gone"}[r]
}

// message is what the log says. Each reason has its own, so that a flood of one does not hide another.
func (r rejection) message() string {
	return [...]string{
		"a websocket is refused: the handshake is not sound",
		"a websocket is refused: too many connections",
		"a websocket is refused: the page's origin may not connect",
		"a websocket is turned away: the client is not logged in",
		"a websocket is refused: it could not be found out who the client is",
		"a websocket is refused: the relay has not started yet",
		"a websocket is refused: too many questions wait for the authority",
		"a client hung up before it was authenticated",
	}[r]
}

// remedy is what the operator can do about it.
func (r rejection) remedy() string {
	return [...]string{
		"none: the client is at fault",
		"raise the limit in edgerelay's limits, if these connections are wanted",
		"add the origin to edgerelay's origins, if the page is yours",
		"log in",
		"see that the API which auth names can be reached from here and answers in time",
		"wait; if it does not start, see what the log says of its configuration",
		"raise concurrency of auth awx if its API can take more; if these are strangers, limit handshakes for each address",
		"none: the client is at fault, unless the authority is slow",
	}[r]
}
