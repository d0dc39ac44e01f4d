package channels

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/edgerelay/edgerelay/internal/pyjson"
	"github.com/edgerelay/edgerelay/relay"
)

// Action is what becomes of the clients' messages.
type Action uint8

// The actions.
const (
	// IgnoreMessages drops messages, as a consumer without receive() does.
	IgnoreMessages Action = iota
	// RefuseMessages closes the connection with 1008.
	RefuseMessages
	// PublishMessages publishes messages to groups.
	PublishMessages
	// SubscribeMessages lets messages change the groups of their client.
	SubscribeMessages
)

// Messages describes what becomes of the clients' messages.
type Messages struct {
	Action Action
	// Type is the type of published messages.
	Type string
	// JSON reads text messages as JSON objects. Members are the members to publish, each of which the message must
	// have; empty: all but reserved ones.
	JSON    bool
	Members []Member
	// Text is the member that gets a text message as it is; empty without JSON: text messages are malformed.
	Text string
	// Binary is the member that gets the bytes of a binary message; empty: binary messages are malformed.
	Binary string
	// To are the groups; empty: the client's first group.
	To []Template
	// Set are members beside those of the message.
	Set []SetMember
	// Others withholds the event from the client that sent the message.
	Others bool
	// Join and Leave are the changes of SubscribeMessages.
	Join, Leave []Change

	names       []name
	heads       []string
	textHead    string
	binaryHead  string
	binaryNames []string
}

// SetMember is a member of published messages that the operator sets.
type SetMember struct {
	Name string
	// Constant is JSON; if empty, Value is expanded for each client.
	Constant json.RawMessage
	Value    Template
}

// reserved are members that a client cannot set.
var reserved = []string{"type", relay.SenderMember, "__asgi_channel__"}

// Prepare checks the settings and prepares them for messages.
func (m *Messages) Prepare() error {
	if m.Action == SubscribeMessages && len(m.Join) == 0 {
		return fmt.Errorf("messages subscribe: name a group, such as 'join room_{message.room}'")
	}
	if m.Action != PublishMessages {
		return nil
	}
	if m.Type == "" {
		return fmt.Errorf("messages publish: name the type of the messages, such as chat.message")
	}
	if !m.JSON && m.Text == "" && m.Binary == "" {
		return fmt.Errorf("messages publish %s: name a member, such as 'publish %s text message'", m.Type, m.Type)
	}
	seen := map[string]bool{}
	for _, s := range m.Set {
		if seen[s.Name] {
			return fmt.Errorf("messages publish %s: %q is set twice; remove one", m.Type, s.Name)
		}
		seen[s.Name] = true
	}
	for _, n := range append(newNames(m.Members), m.Text, m.Binary) {
		if slices.Contains(reserved, n) {
			return fmt.Errorf("messages publish %s: the member %q is reserved; choose another name", m.Type, n)
		}
		if seen[n] {
			return fmt.Errorf("messages publish %s: the member %q is also set; remove one", m.Type, n)
		}
	}
	named := map[string]bool{}
	for _, n := range newNames(m.Members) {
		if named[n] {
			return fmt.Errorf("messages publish %s: the member %q is named twice; remove one", m.Type, n)
		}
		named[n] = true
	}
	m.names, m.heads = nil, nil
	for _, member := range m.Members {
		m.names = append(m.names, name{member.Old, string(pyjson.AppendString(nil, member.Old))})
		m.heads = append(m.heads, string(pyjson.AppendString(nil, member.New))+": ")
	}
	m.textHead = string(pyjson.AppendString(nil, m.Text)) + ": "
	m.binaryHead = string(pyjson.AppendString(nil, m.Binary)) + ": "
	m.binaryNames = []string{m.Binary}
	return nil
}

func newNames(members []Member) (list []string) {
	for _, m := range members {
		list = append(list, m.New)
	}
	return list
}

// malformed is the reason to close the connection of a client that sent a malformed message.
type malformed struct {
	code   int
	reason string
}

// object returns the members of the published message: those of the client's message, then sets, which is the result
// of [Messages.Resolve].
func (m *Messages) object(text bool, message, sets []byte) ([]byte, *malformed) {
	b := make([]byte, 1, len(message)+len(message)/2+len(sets)+64)
	b[0] = '{'
	var why *malformed
	switch {
	case !text && m.Binary == "":
		return nil, &malformed{CloseUnsupported, "binary messages are not accepted"}
	case !text:
		b = append(append(b, m.binaryHead...), '"')
		b = append(base64.StdEncoding.AppendEncode(b, message), '"')
	case m.JSON:
		b, why = m.appendMembers(b, message)
	case m.Text == "":
		return nil, &malformed{CloseUnsupported, "text messages are not accepted"}
	default:
		b = pyjson.AppendString(append(b, m.textHead...), string(message))
	}
	if why != nil {
		return nil, why
	}
	if len(sets) > 0 {
		if len(b) > 1 {
			b = append(b, ", "...)
		}
		b = append(b, sets...)
	}
	return append(b, '}'), nil
}

// appendMembers appends members of the JSON object in a client's message, in the order of the rule, or all of them.
func (m *Messages) appendMembers(b, message []byte) ([]byte, *malformed) {
	normal, err := pyjson.Normalize(make([]byte, 0, len(message)+len(message)/4), message)
	if err != nil || len(normal) == 0 || normal[0] != '{' {
		return nil, &malformed{CloseInvalid, "a message must be a JSON object"}
	}
	if len(m.names) == 0 {
		return m.appendAll(b, normal), nil
	}
	spans := make([]span, len(m.names))
	findMembers(normal, m.names, spans)
	for i, s := range spans {
		if !s.found() {
			return nil, &malformed{CloseInvalid, "a member of the message is missing"}
		}
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(append(b, m.heads[i]...), s.of(normal)...)
	}
	return b, nil
}

// appendAll appends all members of an object in normal form, except those that a client cannot set.
func (m *Messages) appendAll(b, object []byte) []byte {
	for at := 1; at < len(object) && object[at] == '"'; {
		end := skipString(object, at)
		from := end + len(": ")
		to := skipValue(object, from)
		var key string
		if json.Unmarshal(object[at:end], &key) == nil && !m.fixed(key) {
			if len(b) > 1 {
				b = append(b, ", "...)
			}
			b = append(b, object[at:to]...)
		}
		at = to + len(", ")
	}
	return b
}

// fixed reports whether a client cannot set a member.
func (m *Messages) fixed(key string) bool {
	return slices.Contains(reserved, key) ||
		slices.ContainsFunc(m.Set, func(s SetMember) bool { return s.Name == key })
}

// Targets are what the templates of a route's messages became for one client.
type Targets struct {
	messages *Messages
	groups   []string
	sets     []byte
	changes  *changes // of SubscribeMessages
}

// of returns the targets if they belong to the messages, else nil.
func (t *Targets) of(m *Messages) *Targets {
	if t == nil {
		return nil
	}
	if t.messages == m || t.messages.sameTemplates(m) {
		return t
	}
	return nil
}

// sameTemplates reports whether the templates of both become the same for any client.
func (m *Messages) sameTemplates(other *Messages) bool {
	sameChange := func(a, b Change) bool { return a.Group.source == b.Group.source }
	return slices.EqualFunc(m.Join, other.Join, sameChange) && slices.EqualFunc(m.Leave, other.Leave, sameChange) &&
		slices.EqualFunc(m.To, other.To, func(a, b Template) bool { return a.source == b.source }) &&
		slices.EqualFunc(m.Set, other.Set, func(a, b SetMember) bool {
			return a.Name == b.Name && a.Value.source == b.Value.source && string(a.Constant) == string(b.Constant)
		})
}

// Resolve returns the targets of a client. groups are the groups to publish to, and value returns the JSON of a member
// that is set by a template.
func (m *Messages) Resolve(groups []string, value func(Template) (json.RawMessage, error)) (*Targets, error) {
	t := &Targets{messages: m, groups: groups}
	for _, s := range m.Set {
		raw := s.Constant
		if len(raw) == 0 {
			var err error
			if raw, err = value(s.Value); err != nil {
				return nil, fmt.Errorf("set %s: %w", s.Name, err)
			}
		}
		if len(t.sets) > 0 {
			t.sets = append(t.sets, ", "...)
		}
		t.sets = append(pyjson.AppendString(t.sets, s.Name), ": "...)
		var err error
		if t.sets, err = pyjson.Normalize(t.sets, raw); err != nil {
			return nil, fmt.Errorf("set %s: %w", s.Name, err)
		}
	}
	return t, nil
}
