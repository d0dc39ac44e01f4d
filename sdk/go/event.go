package edgerelay

import "strconv"

// Verdict is what a hook decides.
type Verdict uint64

// Verdicts that carry nothing; [Replace] makes one that does.
const (
	Pass  Verdict = 0 // the event goes on as it came
	Drop  Verdict = 1 // it ends here, or, from [OnClass], this class does not get it
	Error Verdict = 2 // the plugin failed: its on_error setting decides. See [Fail]
)

// Replace makes payload, UTF-8 text, the event's new payload. It must not be changed before the hook is called again.
func Replace(payload []byte) Verdict { return Verdict(result(payload)) }

// Fail logs why the plugin cannot decide and returns [Error].
func Fail(why string) Verdict {
	Log(LevelError, why)
	return Error
}

// Event is an event on its way to the subscribers of a group. It and all that it holds are valid until the hook returns.
type Event struct {
	// Group is the group's name, such as "job_events-42".
	Group string
	Document
}

// Insert returns a replacement of the payload, a JSON object, with more members at its end. members is their JSON text: `"seen":true`.
// A payload that is no object passes as it is.
func (e *Event) Insert(members string) Verdict {
	end := len(e.Payload) - 1
	for end >= 0 && space(e.Payload[end]) {
		end--
	}
	start := 0
	for start < end && space(e.Payload[start]) {
		start++
	}
	if end <= start || e.Payload[start] != '{' || e.Payload[end] != '}' || members == "" {
		return Pass
	}
	out := make([]byte, 0, len(e.Payload)+len(members)+1)
	out = append(out, e.Payload[:end]...)
	last := end - 1
	for space(e.Payload[last]) {
		last--
	}
	if last > start {
		out = append(out, ',')
	}
	out = append(out, members...)
	return Replace(append(out, '}'))
}

func space(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// Request is a user's wish to subscribe to a group: [Document.Text] of "group", and of "user.…" for what the authorizer knows of the user.
type Request struct{ Document }

// Answer is what a plugin says to a [Request].
type Answer uint64

// Answers; see also [AllowAs] and [DenyBecause].
const (
	Allow        Answer = 0
	Deny         Answer = 1
	AnswerFailed Answer = 2 // the plugin failed, which denies
)

// AllowAs allows, and puts the subscriber into an audience class, 0 to 63.
func AllowAs(class uint8) Answer { return 0x100 + Answer(class) }

// DenyBecause denies and tells the user why.
func DenyBecause(reason string) Answer { return Answer(result([]byte(reason))) }

// Document is JSON text in the host's hands, which finds values in it much faster than a plugin could.
//
// A path is member names and array positions joined by dots, a backslash escaping a dot or itself: event_data.res.0.stdout. The first
// of two equal members counts.
type Document struct {
	// Payload is the text as it came. The plugin may change it in place; the methods still read what came.
	Payload []byte
}

// Text returns the value at path: a string decoded, anything else as JSON text. It reports whether there is one.
func (*Document) Text(path string) (string, bool) { return text(hostJSONGet, path) }

// Is reports whether the value at path, as [Document.Text] gives it, is want. It is the fastest way to filter.
func (*Document) Is(path, want string) bool {
	if len(want) > len(scratch) {
		s, ok := text(hostJSONGet, path)
		return ok && s == want
	}
	n := hostJSONGet(path, scratch[:])
	return n == len(want) && string(scratch[:n]) == want
}

// Int returns the value at path as an integer, a string of digits too. It reports whether there is one.
func (*Document) Int(path string) (int64, bool) { return integer(hostJSONGet, path) }

// Has reports whether there is a value at path, be it null.
func (*Document) Has(path string) bool { return hostJSONFind(path) >= 0 }

// Find returns where the value at path stands in the payload as JSON text, quotes included: Payload[from:to].
func (*Document) Find(path string) (from, to int, ok bool) {
	at := hostJSONFind(path)
	if at < 0 {
		return 0, 0, false
	}
	from = int(at >> 32)
	return from, from + int(uint32(at)), true
}

// scratch takes what the host gives; one call runs at a time.
var scratch [4096]byte

// text reads a value of any length; get answers with its length, and copies it if there is room.
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
