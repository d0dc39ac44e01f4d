package awx

import (
	"errors"
	"strconv"

	"github.com/edgerelay/edgerelay/internal/pyjson"
	"github.com/edgerelay/edgerelay/relay"
)

// EventsSubprotocol is the WebSocket subprotocol with which a client opts in to positions. Such a client gets AWX's own
// frames unchanged. Each other frame is an object that begins with "type", and holds the events in a member, so that no
// event can imitate a frame of the relay. See docs/client-protocol.md, and
// docs/decisions/protocol-and-authz.md#why-do-clients-with-positions-get-events-in-an-envelope
const EventsSubprotocol = "edgerelay.events.v1"

var _ relay.PositionProtocol = Protocol{}

// AppendEvent implements [relay.PositionProtocol]. A text that is JSON becomes the member "event", byte for byte; any
// other text, such as one with Python's NaN, becomes the string "text". An integer "counter" of the event, which AWX's
// API can be asked for, is repeated outside.
func (Protocol) AppendEvent(dst []byte, ev *relay.Event, text []byte) []byte {
	dst = appendGroup(append(dst, `{"type":"event"`...), ev.Group)
	dst = appendPosition(dst, ev.Position)
	if micros, ok := eventTime(ev); ok {
		dst = appendSeconds(append(dst, `,"time":`...), micros)
	}
	counter, ok := scanJSON(text)
	if !ok {
		return append(pyjson.AppendString(append(dst, `,"text":`...), string(text)), '}')
	}
	if counter != nil {
		dst = append(append(dst, `,"counter":`...), counter...)
	}
	dst = append(append(dst, `,"event":`...), text...)
	return append(dst, '}')
}

// eventTime returns the time of an event in Unix microseconds. The time of a position comes first, so that an event has
// the same time live and in a replay.
func eventTime(ev *relay.Event) (micros int64, ok bool) {
	if !ev.Position.IsZero() {
		return ev.Position.Micros, true
	}
	return ev.Sent.UnixMicro(), !ev.Sent.IsZero()
}

// EncodeResumed implements [relay.PositionProtocol].
func (Protocol) EncodeResumed(r relay.Resumed) []byte {
	b := appendPosition(appendGroup([]byte(`{"type":"subscribed"`), r.Group), r.Position)
	if r.Asked {
		b = strconv.AppendBool(append(b, `,"recovered":`...), r.Reason == nil)
	}
	if r.Asked && r.Reason != nil {
		b = pyjson.AppendString(append(b, `,"reason":`...), reasonCode(r.Reason))
	}
	if r.Events > 0 || !r.Position.IsZero() {
		b = strconv.AppendInt(append(b, `,"events":`...), int64(r.Events), 10)
	}
	return append(b, '}')
}

// reasonCode returns the code of a reason for which a client cannot resume.
func reasonCode(err error) string {
	var reason relay.NotRecovered
	if !errors.As(err, &reason) {
		reason = relay.NotRecoveredUnavailable
	}
	return string(reason)
}

// EncodeGap implements [relay.PositionProtocol]. Without the member "groups", all of the client's groups are concerned.
func (Protocol) EncodeGap(g relay.Gap) []byte {
	b := []byte(`{"type":"gap"`)
	if len(g.Groups) > 0 {
		b = appendStrings(append(b, `,"groups":`...), g.Groups)
	}
	b = pyjson.AppendString(append(appendPosition(b, g.Position), `,"reason":`...), g.Cause.String())
	if g.Events > 0 {
		b = strconv.AppendInt(append(b, `,"events":`...), int64(g.Events), 10)
	}
	return append(b, '}')
}

// EncodeWithheld implements [relay.PositionProtocol].
func (Protocol) EncodeWithheld(group string, position relay.Position) []byte {
	return append(appendPosition(appendGroup([]byte(`{"type":"withheld"`), group), position), '}')
}

// appendGroup appends the member "group" to an object.
func appendGroup(dst []byte, group string) []byte {
	return pyjson.AppendString(append(dst, `,"group":`...), group)
}

// appendPosition appends the member "position" to an object, unless the position is zero.
func appendPosition(dst []byte, p relay.Position) []byte {
	if p.IsZero() {
		return dst
	}
	return append(p.Append(append(dst, `,"position":"`...)), '"')
}

// appendSeconds appends a time in microseconds as a number of seconds.
func appendSeconds(dst []byte, micros int64) []byte {
	n := uint64(micros)
	if micros < 0 {
		dst, n = append(dst, '-'), -n
	}
	dst = strconv.AppendUint(dst, n/1e6, 10)
	dst = append(dst, '.')
	for fraction, unit := n%1e6, uint64(1e5); unit > 0; unit /= 10 {
		dst = append(dst, byte('0'+fraction/unit%10))
	}
	return dst
}

// appendStrings appends a list of at least one string, without spaces.
func appendStrings(dst []byte, list []string) []byte {
	separator := byte('[')
	for _, s := range list {
		dst = pyjson.AppendString(append(dst, separator), s)
		separator = ','
	}
	return append(dst, ']')
}
