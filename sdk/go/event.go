package edgerelay

import "strconv"

// Verdict is the decision of a hook.
type Verdict uint64

// Verdicts without a payload; see also [Replace].
const (
	Pass  Verdict = 0 // the event passes unchanged
	Drop  Verdict = 1 // the event is dropped; from [OnClass], for this class
	Error Verdict = 2 // the plugin failed, and its on_error setting decides; see [Fail]
)

// Replace makes payload, UTF-8 text, the event's new payload. The bytes must not change before the next call of a hook.
func Replace(payload []byte) Verdict { return Verdict(result(payload)) }

// Fail logs the reason of a failure and returns [Error].
func Fail(why string) Verdict {
	Log(LevelError, why)
	return Error
}

// Event is an event on its way to the subscribers of a group. The event and its contents are valid until the hook
// returns.
type Event struct {
	// Group is the group's name, such as "job_events-42".
	Group string
	Document

	arrived     []byte   // Payload, unless the plugin has put another text in place
	edited      []byte   // the payload after edits
	changed     bool     // whether edited is valid
	splices     []splice // the edits
	lost        bool     // whether splices lacks an edit
	name, value []byte   // parts of an edit
}

// Insert returns a replacement of the payload, a JSON object, with more members at its end. members is the JSON text of
// these members, such as `"seen":true`. It works on the result of edits before it. A payload that is not an object
// gets no members. See also [Event.Set].
func (e *Event) Insert(members string) Verdict {
	text := e.EditedPayload()
	start, end := skipSpace(text, 0), skipSpaceBack(text, len(text)-1)
	if end <= start || text[start] != '{' || text[end] != '}' || members == "" {
		return e.Edited()
	}
	out := make([]byte, 0, len(text)+len(members)+1)
	out = append(out, text[:end]...)
	if skipSpaceBack(text, end-1) > start {
		out = append(out, ',')
	}
	out = append(out, members...)
	return Replace(append(out, '}'))
}

// Source returns the way by which the event reached the node: layer, peer, or history for an event that clients have
// missed and get now, see [Event.IsReplay]. It returns "" if that is not known.
func (*Event) Source() string {
	n := hostEventSource(scratch[:])
	return string(scratch[:min(max(n, 0), len(scratch))])
}

// IsReplay reports whether the event is of the history, for clients that have missed it. The plugin may have seen the
// event before, and sees it again for each client: a plugin with state lets it pass, and leaves the state as it is.
// Events that the plugin emits to other groups are dropped.
func (*Event) IsReplay() bool {
	n := hostEventSource(scratch[:])
	return n == len("history") && string(scratch[:n]) == "history"
}

// Position returns the place of the event in the history of its group, a token, and "" if the group has none. See also
// [EmitAt].
func (*Event) Position() string {
	n := hostEventPosition(scratch[:])
	return string(scratch[:min(max(n, 0), len(scratch))])
}

// Sent returns when the emitter sent the event, as Unix time in milliseconds. It reports false if that is not known.
func (*Event) Sent() (int64, bool) {
	ms := hostEventSent()
	return max(ms, 0), ms >= 0
}

// Request is a user's request to subscribe to a group: [Document.Text] returns "group", and below "user" the
// authorizer's information about the user.
type Request struct{ Document }

// Answer is a plugin's answer to a [Request].
type Answer uint64

// Answers; see also [AllowAs] and [DenyBecause].
const (
	Allow        Answer = 0
	Deny         Answer = 1
	AnswerFailed Answer = 2 // the plugin failed, which denies the subscription
)

// AllowAs allows the subscription and puts the subscriber into an audience class, 0 to 63.
func AllowAs(class uint8) Answer { return 0x100 + Answer(class) }

// DenyBecause denies the subscription with a reason for the user.
func DenyBecause(reason string) Answer { return Answer(result([]byte(reason))) }

// Document is a JSON text that the host searches, much faster than a plugin could.
//
// A path consists of member names and array positions, joined by dots: event_data.res.0.stdout. A backslash escapes a
// dot or a backslash. If a member occurs twice, the first occurrence counts.
type Document struct {
	// Payload is the text. The plugin may change the bytes in place; the methods still read the original text.
	Payload []byte
}

// Text returns the value at path: a string decoded, any other value as JSON text. It reports whether the value exists.
func (*Document) Text(path string) (string, bool) { return text(hostJSONGet, path) }

// Is reports whether [Document.Text] of path equals want. It is the fastest way to filter.
func (*Document) Is(path, want string) bool {
	if len(want) > len(scratch) {
		s, ok := text(hostJSONGet, path)
		return ok && s == want
	}
	n := hostJSONGet(path, scratch[:])
	return n == len(want) && string(scratch[:n]) == want
}

// Int returns the integer at path, which may also be a string of digits. It reports whether there is an integer.
func (*Document) Int(path string) (int64, bool) { return integer(hostJSONGet, path) }

// Has reports whether there is a value at path, including null.
func (*Document) Has(path string) bool { return hostJSONFind(path) >= 0 }

// Find returns the position of the value at path as JSON text, quotes included: Payload[from:to].
func (*Document) Find(path string) (from, to int, ok bool) {
	at := hostJSONFind(path)
	if at < 0 {
		return 0, 0, false
	}
	from = int(at >> 32)
	return from, from + int(uint32(at)), true
}

// scratch receives values from the host. An instance handles one call at a time.
var scratch [4096]byte

// text reads a value of any length. get returns the length, and copies the value if there is room.
func text(get func(string, []byte) int, key string) (string, bool) {
	n := get(key, scratch[:])
	if n < 0 {
		return "", false
	}
	if n <= len(scratch) {
		return string(scratch[:n]), true
	}
	b := make([]byte, n)
	if m := get(key, b); m >= 0 && m <= len(b) {
		return string(b[:m]), true
	}
	return "", false
}

func integer(get func(string, []byte) int, path string) (int64, bool) {
	s, ok := text(get, path)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}
