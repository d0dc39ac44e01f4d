package channels

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/edgerelay/edgerelay/internal/pyjson"
	"github.com/edgerelay/edgerelay/relay"
)

// The groups that a client's message asks for.
func TestGroupsOfMessages(t *testing.T) {
	template := func(source string) Template {
		parsed, err := ParseTemplate(source)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	when := func(name, value string) []Constant { return []Constant{{name, json.RawMessage(value)}} }
	handshake := func(name string) []string { return map[string][]string{"shop": {"north"}, "user": {"7"}}[name] }
	for _, c := range []struct {
		name, group, message string
		when                 []Constant
		want                 []string
	}{
		{"a string", "room_{message.room}", `{"room": "a"}`, nil, []string{"room_a"}},
		{"a number", "room_{message.room}", `{"x": {"room": 1}, "room": 17}`, nil, []string{"room_17"}},
		{"a list", "room_{message.rooms}", `{"rooms": ["a", 2, "a"]}`, nil, []string{"room_a", "room_2"}},
		{"with values of the handshake", "{shop}-{message.room}-{user}", `{"room": "a"}`, nil, []string{"north-a-7"}},
		{"an escaped name", "room_{message.ä}", `{"ä": "a"}`, nil, []string{"room_a"}},
		{"no member", "room_{message.room}", `{"rooms": "a"}`, nil, nil},
		{"no object", "room_{message.room}", `["a"]`, nil, nil},
		{"null", "room_{message.room}", `{"room": null}`, nil, nil},
		{"an object", "room_{message.room}", `{"room": {"a": 1}}`, nil, nil},
		{"a list of lists", "room_{message.room}", `{"room": [["a"]]}`, nil, nil},
		{"empty", "room_{message.room}", `{"room": ""}`, nil, nil},
		{"no group's name", "room_{message.room}", `{"room": "a b"}`, nil, nil},
		{"a condition", "room_{message.room}", `{"action": "join", "room": "a"}`, when("action", `"join"`), []string{"room_a"}},
		{"another value", "room_{message.room}", `{"action": "leave", "room": "a"}`, when("action", `"join"`), nil},
		{"another kind of value", "room_{message.room}", `{"action": "1", "room": "a"}`, when("action", `1`), nil},
		{"a value in another form", "room_{message.room}", `{"on":{"a":1},"room":"a"}`, when("on", `{"a": 1}`), []string{"room_a"}},
		{"no condition's member", "room_{message.room}", `{"room": "a"}`, when("action", `"join"`), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			bound, err := template(c.group).Bind(handshake)
			if err != nil {
				t.Fatal(err)
			}
			changes := []Change{{Group: template(c.group), When: c.when}}
			normal := normalized(t, c.message)
			if got := named(changes, []Template{bound}, normal); !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
	if _, err := template("x_{other}_{message.room}").Bind(handshake); err == nil {
		t.Error("a placeholder without a value is accepted")
	}
}

// No message of a client makes a group name that is none.
func FuzzGroupsOfMessages(f *testing.F) {
	f.Add(`{"room": "a"}`)
	f.Add(`{"room": [1, "\u00e4", "{user}"]}`)
	group, err := ParseTemplate("room_{message.room}")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, message string) {
		normal := normalized(t, message)
		if normal == nil {
			return
		}
		for _, g := range named([]Change{{Group: group}}, []Template{group}, normal) {
			if len(g) < len("room_x") || g[:5] != "room_" || relay.CheckGroup(g) != nil {
				t.Errorf("%q makes the group %q", message, g)
			}
		}
	})
}

// normalized returns a message as a client's is read, nil if it is not JSON.
func normalized(t *testing.T, message string) []byte {
	t.Helper()
	normal, err := pyjson.Normalize(nil, []byte(message))
	if err != nil {
		return nil
	}
	return normal
}
