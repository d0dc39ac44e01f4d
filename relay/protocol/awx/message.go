package awx

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/edgerelay/edgerelay/internal/pyjson"
	"github.com/edgerelay/edgerelay/relay"
)

// message is what a client sends: {"groups": {"<kind>": [<item>, …], …}, "xrftoken": "…"}.
type message struct {
	token  string
	asks   bool            // it has groups
	plain  []wish          // for these, where parsePlain has read them
	groups json.RawMessage // else what stands there
}

// parseMessage reads a client's text frame.
func parseMessage(text []byte) (message, error) {
	if m, ok := parsePlain(text); ok {
		return m, nil
	}
	return parseAny(text)
}

// parseAny reads what parsePlain does not. Keys are exact, and the last of equal keys counts, as in Python.
func parseAny(text []byte) (message, error) {
	var m message
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil || object == nil {
		return m, errors.New("a message must be a JSON object")
	}
	if raw, ok := object["xrftoken"]; ok {
		_ = json.Unmarshal(raw, &m.token) // anything but a string is no token
	}
	m.groups, m.asks = object["groups"]
	return m, nil
}

// wishes are the groups that the message asks for, in its own order. With an error it returns those that came before the fault.
func (m message) wishes() ([]wish, error) {
	if m.groups == nil {
		return m.plain, nil
	}
	return parseWishes(m.groups)
}

// wish is one group that a client asks for.
type wish struct {
	kind, item string
}

// group is the full name in the channel layer.
func (w wish) group() string { return w.kind + "-" + w.item }

// errNotList is the refusal of groups whose value is not a list.
var errNotList = errors.New("access denied to channel")

// parseWishes reads the groups object in its own order. With an error it returns the wishes that came before the fault.
func parseWishes(raw json.RawMessage) ([]wish, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("groups must be an object of lists")
	}
	var order []string
	lists := map[string]json.RawMessage{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("groups: %w", err)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, fmt.Errorf("groups: %w", err)
		}
		kind := key.(string)
		if _, again := lists[kind]; !again {
			order = append(order, kind)
		}
		lists[kind] = value
	}

	var wishes []wish
	for _, kind := range order {
		var items []json.RawMessage
		if lists[kind][0] != '[' || json.Unmarshal(lists[kind], &items) != nil {
			return wishes, errNotList
		}
		for _, raw := range items {
			item, ok := parseItem(raw)
			w := wish{kind, item}
			if !ok || !relay.ValidGroup(w.group()) {
				return wishes, fmt.Errorf("no such group: %s-%s: a group name is 1 to %d ASCII letters, digits, '-', '_' or '.'",
					abbreviate(kind), abbreviate(strings.Trim(string(raw), `"`)), relay.MaxGroupName)
			}
			wishes = append(wishes, w)
		}
	}
	return wishes, nil
}

// parseItem reads an event type or an id: a string, or an integer, which is written as Python writes it.
func parseItem(raw json.RawMessage) (string, bool) {
	if raw[0] == '"' {
		var s string
		err := json.Unmarshal(raw, &s)
		return s, err == nil
	}
	s := string(raw)
	if s == "-0" {
		return "0", true
	}
	digits := strings.TrimPrefix(s, "-")
	for _, c := range digits {
		if c < '0' || c > '9' {
			return "", false
		}
	}
	return s, digits != ""
}

// abbreviate keeps what a client sent from coming back at full length.
func abbreviate(s string) string {
	const most = 120
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// acceptFrame greets a user. id is a JSON value.
func acceptFrame(id string) []byte { return []byte(`{"accept": true, "user": ` + id + `}`) }

func errorFrame(text string) []byte {
	return append(pyjson.AppendString([]byte(`{"error": `), text), '}')
}

// GroupsFrame tells a client what has become of its groups.
func GroupsFrame(c relay.Change) []byte {
	b := pyjson.AppendStrings([]byte(`{"groups_current": `), c.Current)
	b = pyjson.AppendStrings(append(b, `, "groups_left": `...), c.Left)
	b = pyjson.AppendStrings(append(b, `, "groups_joined": `...), c.Joined)
	return append(b, '}')
}
