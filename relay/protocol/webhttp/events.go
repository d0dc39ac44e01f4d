package webhttp

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// ContentType is the media type of a list of events.
const ContentType = "application/websocket-events"

// Bounds of a response, as in Pushpin.
const (
	maxResponse = 1_000_000
	maxEvents   = 10_000
)

// The types of events.
const (
	eventOpen       = "OPEN"
	eventText       = "TEXT"
	eventBinary     = "BINARY"
	eventPing       = "PING"
	eventPong       = "PONG"
	eventClose      = "CLOSE"
	eventDisconnect = "DISCONNECT"
)

// event is an event of a WebSocket.
type event struct {
	kind string
	// content is nil for an event without content.
	content []byte
}

var (
	errLine    = errors.New("an event has no line of its own; end its type by CR LF")
	errContent = errors.New("an event has less content than announced, or no CR LF behind it")
)

// appendEvent appends an event: TYPE CR LF, or TYPE, a space, the length of the content in hexadecimal, CR LF, content
// and CR LF.
func appendEvent(dst []byte, kind string, content []byte) []byte {
	dst = append(dst, kind...)
	if content != nil {
		dst = strconv.AppendInt(append(dst, ' '), int64(len(content)), 16)
		dst = append(append(dst, "\r\n"...), content...)
	}
	return append(dst, "\r\n"...)
}

// parseEvents parses a list of events, whose contents are parts of body. Unknown types are kept.
func parseEvents(body []byte) (events []event, err error) {
	for len(body) > 0 {
		if len(events) == maxEvents {
			return nil, fmt.Errorf("more than %d events; send fewer", maxEvents)
		}
		line, rest, ok := bytes.Cut(body, []byte("\r\n"))
		if !ok {
			return nil, errLine
		}
		kind, length, has := bytes.Cut(line, []byte{' '})
		if len(kind) == 0 || len(kind) > 32 {
			return nil, errLine
		}
		e := event{kind: string(kind)}
		if has {
			n, err := strconv.ParseUint(string(length), 16, 31)
			if err != nil {
				return nil, fmt.Errorf("length %q of an event; write it in hexadecimal", length)
			}
			if uint64(len(rest)) < n+2 || rest[n] != '\r' || rest[n+1] != '\n' {
				return nil, errContent
			}
			e.content, rest = rest[:n:n], rest[n+2:]
		}
		events, body = append(events, e), rest
	}
	return events, nil
}
