package eventstream

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/edgerelay/edgerelay/internal/pyjson"
	"github.com/edgerelay/edgerelay/relay"
)

const (
	// Retry is the time after which a client reconnects that was cut off.
	Retry = 2 * time.Second
	// retryAtOnce is that of a client whose stream is renewed.
	retryAtOnce = 20 * time.Millisecond
	// retryMost is the greatest one of clients that a node sends away, each of which gets a time at random.
	retryMost = 10 * time.Second
	// paddingSize is the number of bytes that fill the buffer of a proxy or an old browser.
	paddingSize = 2048
)

// Heartbeat is a comment that shows that the stream is alive, and Interval the time between two. No empty line follows:
// some clients take one for the end of an event without data.
const (
	Heartbeat = ":\n"
	Interval  = 15 * time.Second
)

// Begin returns the first bytes of a stream, with a comment as padding if that is wanted. As behind Heartbeat, no empty
// line follows.
func Begin(padding bool) []byte {
	b := fmt.Appendf(nil, "retry: %d\n", Retry.Milliseconds())
	if padding {
		b = append(append(append(b, ':'), bytes.Repeat([]byte(" "), paddingSize)...), '\n')
	}
	return b
}

// End returns the last bytes of a stream: an event "close" with the code and the reason of a close frame. A stream that
// is renewed ends without it: the client resumes at once.
func End(code int, reason string, renewed bool) []byte {
	if renewed {
		return fmt.Appendf(nil, "retry: %d\n\n", retryAtOnce.Milliseconds())
	}
	var b []byte
	if code == relay.CloseRestart || code == relay.CloseGoingAway || code == relay.CloseTryLater {
		b = fmt.Appendf(b, "retry: %d\n", (Retry/2 + rand.N(retryMost-Retry/2)).Milliseconds())
	}
	b = fmt.Appendf(b, "event: close\ndata: {\"code\":%d,\"reason\":", code)
	return append(pyjson.AppendString(b, reason), "}\n\n"...)
}
