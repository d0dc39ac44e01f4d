// Package eventstream is what a client of an event stream gets (server-sent events, WHATWG HTML section 9.2): it makes
// the relay's frames events with ids, with which a client resumes.
//
// An event stream is a client that gets positions: each frame is an object of the subprotocol edgerelay.events.v1 (see
// docs/client-protocol.md). [Plain] takes the emitter's texts out, [Framed] keeps the frames. A client with several
// groups has ids of its own ([Places]).
package eventstream

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"unicode/utf8"
)

// envelope is a frame of the subprotocol, or of AWX's own. The slices are parts of the frame.
type envelope struct {
	// kind is the member "type": event, subscribed, gap, withheld; or error, groups_current, accept or close for AWX's own
	// frames; empty for any other text.
	kind            string
	group, position []byte
	// event is the event as it was published, as JSON; text is a JSON string of it, and binary of its base64. One of them
	// is set for an event.
	event, text, binary []byte
}

// kinds are the types of frames.
var kinds = []string{"event", "subscribed", "gap", "withheld", "first"}

// ownFrames are the beginnings of AWX's own frames.
var ownFrames = []struct{ begin, kind string }{
	{`{"error": `, "error"},
	{`{"groups_current": `, "groups_current"},
	{`{"accept": `, "accept"},
	{`{"close": `, "close"},
}

// parse reads a frame, whose form is that of the relay's own encoders: the order of members is theirs.
func parse(frame []byte) (e envelope) {
	rest, ok := bytes.CutPrefix(frame, []byte(`{"type":"`))
	if !ok {
		for _, own := range ownFrames {
			if bytes.HasPrefix(frame, []byte(own.begin)) {
				e.kind = own.kind
			}
		}
		return e
	}
	for _, kind := range kinds {
		if after, ok := bytes.CutPrefix(rest, []byte(kind+`"`)); ok {
			e.kind, rest = kind, after
		}
	}
	if e.kind == "" {
		return e
	}
	e.group, rest = member(rest, `,"group":"`, '"')
	e.position, rest = member(rest, `,"position":"`, '"')
	switch e.kind {
	case "event", "first":
		return e.content(rest)
	case "subscribed":
		if !bytes.HasSuffix(rest, []byte(`,"events":0}`)) {
			e.position = nil // the replay brings positions of its own
		}
	case "gap": // its position is one to go back to
		e.position = nil
	}
	return e
}

// content reads the members behind the position of an event.
func (e envelope) content(rest []byte) envelope {
	_, rest = member(rest, `,"time":`, ',')
	_, rest = member(rest, `,"counter":`, ',')
	rest = bytes.TrimPrefix(rest, []byte(","))
	rest, ok := bytes.CutSuffix(rest, []byte("}"))
	if !ok {
		return envelope{}
	}
	for _, to := range []struct {
		name string
		part *[]byte
	}{{`"event":`, &e.event}, {`"text":`, &e.text}, {`"binary":`, &e.binary}} {
		if value, ok := bytes.CutPrefix(rest, []byte(to.name)); ok {
			*to.part = value
			return e
		}
	}
	return envelope{}
}

// member cuts a member off the beginning of rest, whose value ends before a byte. The byte ',' stays.
func member(rest []byte, name string, end byte) (value, after []byte) {
	value, ok := bytes.CutPrefix(rest, []byte(name))
	if !ok {
		return nil, rest
	}
	at := bytes.IndexByte(value, end)
	switch {
	case at < 0:
		return nil, rest
	case end == ',':
		return value[:at], value[at:]
	}
	return value[:at], value[at+1:]
}

// Plain appends the event for a frame to dst. An event of a group is the emitter's text, and so is a text that is no
// frame of the subprotocol. The relay's own frames are events with the name of their type.
func Plain(dst []byte, isText bool, frame []byte) []byte {
	e := parse(frame)
	switch e.kind {
	case "event", "first":
		return e.appendEvent(dst)
	case "accept", "close": // the response's status and its last event say that
		return dst
	case "":
		if !isText || !utf8.Valid(frame) {
			dst = append(dst, "event: binary\n"...)
			return appendData(dst, base64.StdEncoding.AppendEncode(nil, frame))
		}
		return appendData(dst, frame)
	}
	dst = append(append(append(e.appendID(dst), "event: "...), e.kind...), '\n')
	return appendData(dst, frame)
}

// appendEvent appends the event of a group.
func (e *envelope) appendEvent(dst []byte) []byte {
	dst = e.appendID(dst)
	switch {
	case e.event != nil:
		return appendData(dst, e.event)
	case e.binary != nil:
		return appendData(append(dst, "event: binary\n"...), bytes.Trim(e.binary, `"`))
	}
	var text string
	_ = json.Unmarshal(e.text, &text) // a string of our own
	return appendData(dst, []byte(text))
}

// Framed appends a frame of the subprotocol as an event, with the id of its position.
func Framed(dst []byte, _ bool, frame []byte) []byte {
	e := parse(frame)
	return appendData(e.appendID(dst), frame)
}

// Bare appends a frame of the subprotocol as an event without an id, for clients that remember positions themselves.
func Bare(dst []byte, _ bool, frame []byte) []byte { return appendData(dst, frame) }

// idField begins the line with an event's id.
const idField = "id: "

// appendID appends the line with the id, if the frame has a position.
func (e *envelope) appendID(dst []byte) []byte {
	if len(e.position) == 0 {
		return dst
	}
	dst = append(append(dst, idField...), e.group...)
	dst = append(append(dst, ':'), e.position...)
	return append(dst, '\n')
}

// appendData appends the lines with a text, and the end of the event. CR, LF and CRLF all end a line of a stream, so
// the client gets LF for each.
func appendData(dst, text []byte) []byte {
	for {
		dst = append(dst, "data: "...)
		at := bytes.IndexAny(text, "\r\n")
		if at < 0 {
			return append(append(dst, text...), "\n\n"...)
		}
		dst = append(append(dst, text[:at]...), '\n')
		if text[at] == '\r' && at+1 < len(text) && text[at+1] == '\n' {
			at++
		}
		text = text[at+1:]
	}
}
