package channels

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/edgerelay/edgerelay/internal/pyjson"
	"github.com/edgerelay/edgerelay/relay"
)

// InternalMessage is the type of events without a Type, which AWX's nodes emit.
const InternalMessage = "internal.message"

// Form is the form of the frame that a [Rule] makes of an event.
type Form uint8

// The forms.
const (
	// Ignore makes no frame.
	Ignore Form = iota
	// Text is a member's text: a string as it is, any other value as JSON.
	Text
	// JSON is an object of the named members and of constants, or the whole event.
	JSON
	// Value is the JSON value of a member.
	Value
	// Binary is a binary frame with the bytes of a member.
	Binary
	// Payload is the event's text as plugins left it.
	Payload
	// Fixed is the same text for every event.
	Fixed
)

// Member is a member of an event, under another name in the frame.
type Member struct {
	New, Old string
	// Constant is JSON, in place of the event's member Old; nil if the value comes from the event. Only the form JSON has
	// constants.
	Constant json.RawMessage
}

// Constant is a member of a frame that does not come from the event.
type Constant struct {
	Name string
	// Value is JSON.
	Value json.RawMessage
}

// Rule maps events of a type to frames.
type Rule struct {
	// Type is the message type.
	Type string
	Form Form
	// Members are the members of a JSON object; empty: the whole event. Text, Value and Binary have exactly one.
	Members []Member
	// Constants follow the members of a JSON object.
	Constants []Constant
	// Fixed is the text of the form Fixed.
	Fixed string
	// Applies, if not nil, tells for which groups the rule holds: those of the plugin of a Payload. Events of other
	// groups make no frame.
	Applies func(group string) bool
}

// compiledRule is a [Rule] prepared for events.
type compiledRule struct {
	form      Form
	names     []name
	heads     []string // before the value of each name: `{"a": `, `, "k": "v", "b": `
	constants string   // `"k": "v", "l": 1`, without braces
	fixed     string   // of the form Fixed
	applies   func(group string) bool
}

// inlineMembers is the number of members whose places need no allocation.
const inlineMembers = 16

// compile prepares a rule.
func (r *Rule) compile() (*compiledRule, error) {
	c := &compiledRule{form: r.Form, applies: r.Applies, fixed: r.Fixed}
	single := r.Form == Text || r.Form == Value || r.Form == Binary
	if single && len(r.Members) != 1 {
		return nil, fmt.Errorf("on %s: name one member of the event, such as 'on %s text message'", r.Type, r.Type)
	}
	if r.Form != JSON && len(r.Constants) > 0 {
		return nil, fmt.Errorf("on %s: set needs the form json; constants stand beside members of an object", r.Type)
	}
	seen := map[string]bool{}
	for _, m := range r.Members {
		if err := r.checkMember(m, seen); err != nil {
			return nil, err
		}
		if m.Constant != nil {
			if err := c.addConstant(m.New, m.Constant); err != nil {
				return nil, fmt.Errorf("on %s: %s:=%s: %w", r.Type, m.New, m.Constant, err)
			}
			continue
		}
		c.names = append(c.names, name{m.Old, string(pyjson.AppendString(nil, m.Old))})
		head := c.takeConstants(len(c.heads) == 0)
		c.heads = append(c.heads, string(pyjson.AppendString([]byte(head), m.New))+": ")
	}
	for _, k := range r.Constants {
		if err := r.checkMember(Member{New: k.Name, Constant: k.Value}, seen); err != nil {
			return nil, err
		}
		if err := c.addConstant(k.Name, k.Value); err != nil {
			return nil, fmt.Errorf("on %s: set %s: %w", r.Type, k.Name, err)
		}
	}
	if len(r.Members) > 0 && len(c.names) == 0 { // nothing of the event
		c.form, c.fixed = Fixed, "{"+c.constants+"}"
	}
	return c, nil
}

// checkMember returns an error for a member that the rule cannot have.
func (r *Rule) checkMember(m Member, seen map[string]bool) error {
	if m.Constant != nil && r.Form != JSON {
		return fmt.Errorf("on %s: the constant %q needs the form json", r.Type, m.New)
	}
	if seen[m.New] {
		return fmt.Errorf("on %s: the frame would have %q twice; rename one with new=old, or remove one", r.Type, m.New)
	}
	seen[m.New] = true
	return nil
}

// addConstant adds a constant behind all others.
func (c *compiledRule) addConstant(name string, value json.RawMessage) error {
	text, err := pyjson.Normalize(nil, value)
	if err != nil {
		return fmt.Errorf("%w; write JSON, such as %s", err, "`\"text\"`")
	}
	if c.constants != "" {
		c.constants += ", "
	}
	c.constants += string(pyjson.AppendString(nil, name)) + ": " + string(text)
	return nil
}

// takeConstants returns the text between two members of the event, or before the first one, with the constants so far.
func (c *compiledRule) takeConstants(first bool) string {
	head := ", "
	if first {
		head = "{"
	}
	if c.constants == "" {
		return head
	}
	head += c.constants + ", "
	c.constants = ""
	return head
}

var (
	errNotObject = errors.New("the event's text is not a JSON object")
	errBase64    = errors.New("the member does not hold bytes; emit a bytes object")
	errString    = errors.New("the member's string is malformed")
	errGroup     = errors.New("the group is none of the plugin's; add a pattern to the plugin's groups")
)

// missingError names a member that an event lacks.
type missingError string

func (e missingError) Error() string { return fmt.Sprintf("the event has no member %q", string(e)) }

// appendFrame appends the payload of the frame for an event. After an error, dst is unchanged.
func (c *compiledRule) appendFrame(dst []byte, group string, text []byte) ([]byte, relay.Frame, error) {
	switch c.form {
	case Ignore:
		return dst, relay.NoFrame, nil
	case Fixed:
		return append(dst, c.fixed...), relay.TextFrame, nil
	}
	if c.applies != nil && !c.applies(group) {
		return dst, relay.NoFrame, errGroup
	}
	if c.form == Payload {
		return append(dst, text...), relay.TextFrame, nil
	}
	var places [inlineMembers]span
	spans := places[:0]
	if len(c.names) > inlineMembers {
		spans = make([]span, len(c.names))
	}
	spans = spans[:len(c.names)]
	if len(spans) > 0 || c.constants != "" {
		if !findMembers(text, c.names, spans) {
			return dst, relay.NoFrame, errNotObject
		}
	}
	for i, s := range spans {
		if !s.found() {
			return dst, relay.NoFrame, missingError(c.names[i].text)
		}
	}
	switch c.form {
	case Text:
		return appendText(dst, spans[0].of(text))
	case Value:
		return append(dst, spans[0].of(text)...), relay.TextFrame, nil
	case Binary:
		return appendBytes(dst, spans[0].of(text))
	}
	if len(spans) == 0 {
		return c.appendWhole(dst, text), relay.TextFrame, nil
	}
	for i, s := range spans {
		dst = append(append(dst, c.heads[i]...), s.of(text)...)
	}
	if c.constants != "" {
		dst = append(append(dst, ", "...), c.constants...)
	}
	return append(dst, '}'), relay.TextFrame, nil
}

// appendWhole appends the whole event, with the constants behind its members.
func (c *compiledRule) appendWhole(dst, text []byte) []byte {
	if c.constants == "" {
		return append(dst, text...)
	}
	end := len(text)
	for end > 0 && text[end-1] != '}' {
		end--
	}
	body := text[:max(end-1, 0)]
	dst = append(dst, body...)
	if at := skipSpace(body, skipSpace(body, 0)+1); at < len(body) { // not an empty object
		dst = append(dst, ", "...)
	}
	return append(append(dst, c.constants...), '}')
}

// appendText appends the text of a JSON value: a string without its escapes, any other value as it is.
func appendText(dst, value []byte) ([]byte, relay.Frame, error) {
	if value[0] != '"' {
		return append(dst, value...), relay.TextFrame, nil
	}
	plain := true
	for _, c := range value[1 : len(value)-1] {
		if c == '\\' || c < ' ' {
			plain = false
			break
		}
	}
	if plain {
		return append(dst, value[1:len(value)-1]...), relay.TextFrame, nil
	}
	var text string
	if json.Unmarshal(value, &text) != nil {
		return dst, relay.NoFrame, errString
	}
	return append(dst, text...), relay.TextFrame, nil
}

// appendBytes appends the bytes of a base64 string.
func appendBytes(dst, value []byte) ([]byte, relay.Frame, error) {
	if len(value) < 2 || value[0] != '"' {
		return dst, relay.NoFrame, errBase64
	}
	payload, err := base64.StdEncoding.AppendDecode(dst, value[1:len(value)-1])
	if err != nil {
		return dst, relay.NoFrame, errBase64
	}
	return payload, relay.BinaryFrame, nil
}
