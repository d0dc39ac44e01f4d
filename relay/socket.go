package relay

import "time"

// Socket is a client's connection. Methods may be called concurrently, and never block.
type Socket interface {
	// Send writes or queues a buffer of whole, encoded text frames. The buffer is shared with other sockets and must
	// not be changed. A socket whose queue would exceed limit bytes is closed instead, and Send returns false.
	Send(frames []byte, limit int) bool
	// SendCopy is Send for a buffer that the caller reuses afterwards.
	SendCopy(frames []byte, limit int) bool
	// Ping sends a ping frame, unless bytes are queued: a slow client has enough to read.
	Ping() (sent bool)
	// Waiting returns the number of queued bytes, and whether the socket was closed because the limit was exceeded.
	Waiting() (bytes int, slow bool)
	// LastRead is the time at which bytes last arrived from the client, or a slow client took some.
	LastRead() time.Time
	// Close sends a close frame with code and reason. The connection ends when the client has answered, or after a few
	// seconds.
	Close(code int, reason string)
	// Kill ends the connection without a close frame.
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
