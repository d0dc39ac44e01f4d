package relay

import "time"

// Socket is one client's websocket as the hub sees it.
// All methods may be called concurrently and none of them blocks.
type Socket interface {
	// Send writes a buffer of whole, encoded text frames, or queues it behind what waits already. The
	// buffer is shared with other sockets and must not be changed. A socket whose queue would grow
	// beyond limit bytes is closed instead, and Send returns false.
	Send(frames []byte, limit int) bool
	// SendCopy is Send for a buffer that the caller uses again afterwards.
	SendCopy(frames []byte, limit int) bool
	// Ping sends a ping frame, unless something waits: the client has enough to read then.
	Ping() (sent bool)
	// Waiting is how many bytes wait because the client reads slowly, and whether it was closed because they were too many.
	Waiting() (bytes int, slow bool)
	// LastRead is when bytes last came from the client, or a client that is behind took some.
	LastRead() time.Time
	// Close sends a close frame with code and reason and ends the connection when the client has
	// answered it or a few seconds have passed.
	Close(code int, reason string)
	// Kill ends the connection at once.
	Kill()
}

// Close codes of RFC 6455 that the relay sends.
const (
	CloseNormal    = 1000
	CloseGoingAway = 1001
	ClosePolicy    = 1008
	CloseRestart   = 1012
	CloseTryLater  = 1013
)
