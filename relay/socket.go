package relay

import "time"

// Socket is a client's connection. Methods may be called concurrently, and never block.
type Socket interface {
	// Send writes or queues a buffer of events: whole, encoded text frames. The buffer is shared with other sockets and
	// must not be changed. A socket whose queue would exceed limit bytes queues nothing, and Send returns false. Unless
	// it is a [Dropper], it is closed as well.
	Send(frames []byte, limit int) bool
	// SendCopy is Send for a buffer that the caller reuses afterwards.
	SendCopy(frames []byte, limit int) bool
	// Ping sends a ping frame, unless bytes are queued: those ask the client for a sign of life as well.
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

// Dropper is a [Socket] that can drop queued events, so that a client that cannot take a burst stays connected. If
// absent, the connection of such a client is closed.
// See docs/decisions/hub.md#why-does-a-full-queue-not-close-a-client
type Dropper interface {
	// DropEvents drops the queued events, after Send has returned false. Events that are being written stay, and so do
	// answers and notices. Events that follow must not be compressed against dropped ones: a [Deflater] chooses
	// accordingly from now on. Calls must not overlap with those of Choose.
	//
	// A client that has taken less than limit bytes in a period, in which its queue was full again and again and never
	// empty, is closed as a slow consumer instead. ok is false for a closed connection.
	DropEvents(limit int, period time.Duration) (d Dropped, ok bool)
	// SendAnswer is Send for frames that are not dropped, such as the answer to a client's message. A client that
	// leaves more than limit bytes of them is closed as a slow consumer.
	SendAnswer(frames []byte, limit int) bool
	// SendNotice is SendAnswer without a limit, for the notice that events were dropped.
	SendNotice(frames []byte) bool
}

// Dropped is the result of [Dropper.DropEvents].
type Dropped struct {
	// Events is the number of events that were dropped.
	Events int
	// Told is set if a notice is the last in the queue, so that the client needs no other.
	Told bool
}

// SendAnswer sends frames that are not dropped, if the socket distinguishes them from events.
func SendAnswer(s Socket, frames []byte, limit int) bool {
	if d, ok := s.(Dropper); ok {
		return d.SendAnswer(frames, limit)
	}
	return s.Send(frames, limit)
}

// Close codes of RFC 6455 that the relay sends.
const (
	CloseNormal    = 1000
	CloseGoingAway = 1001
	ClosePolicy    = 1008
	CloseRestart   = 1012
	CloseTryLater  = 1013
)
