package awx

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/edgerelay/edgerelay/relay"
)

// message is a parsed {"groups": {"<kind>": [<item>, …], …}, "xrftoken": "…", "since": {"<group>": …}}.
type message struct {
	csrfToken string
	hasGroups bool
	requests  []groupRequest  // the groups, if parsePlain has parsed them
	groups    json.RawMessage // the unparsed groups otherwise
	since     json.RawMessage // unparsed; empty if the message has none
}

// groupRequest is a group that a client requests.
type groupRequest struct {
	kind, item string
}

// group returns the group's name in the channel layer.
func (r groupRequest) group() string { return r.kind + "-" + r.item }

// parseMessage parses a client's text frame.
func parseMessage(text []byte) (message, error) {
	if m, ok := parsePlain(text); ok {
		return m, nil
	}
	return parseJSON(text)
}

// parseJSON parses any message. As in Python, keys are case-sensitive, and the last of equal keys counts.
func parseJSON(text []byte) (message, error) {
	var m message
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil || object == nil {
		return m, errors.New("a message must be a JSON object")
	}
	if raw, ok := object["xrftoken"]; ok {
		_ = json.Unmarshal(raw, &m.csrfToken) // other types than a string leave the token empty
	}
	m.groups, m.hasGroups = object["groups"]
	m.since = object["since"]
	return m, nil
}

// groupRequests returns the requested groups in the order of the message. With an error it returns the groups before
// the error.
func (m message) groupRequests() ([]groupRequest, error) {
	if m.groups == nil {
		return m.requests, nil
	}
	return parseGroups(m.groups)
}

// parseGroups parses the groups object. With an error it returns the groups before the error.
func parseGroups(raw json.RawMessage) ([]groupRequest, error) {
	kinds, lists, err := parseKinds(raw)
	if err != nil {
		return nil, err
	}
	var requests []groupRequest
	for _, kind := range kinds {
		var items []json.RawMessage
		if lists[kind][0] != '[' || json.Unmarshal(lists[kind], &items) != nil {
			return requests, errAccessDenied
		}
		for _, raw := range items {
			item, ok := parseItem(raw)
			r := groupRequest{kind, item}
			if !ok || !relay.ValidGroup(r.group()) {
				return requests, fmt.Errorf(
					"no such group: %s-%s: a group name is 1 to %d ASCII letters, digits, '-', '_' or '.'",
					abbreviate(kind), abbreviate(strings.Trim(string(raw), `"`)), relay.MaxGroupName)
			}
			requests = append(requests, r)
		}
	}
	return requests, nil
}

// parseKinds returns the keys of the groups object in order, and the last value of each key.
func parseKinds(raw json.RawMessage) (kinds []string, lists map[string]json.RawMessage, err error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, nil, errors.New("groups must be an object of lists")
	}
	lists = map[string]json.RawMessage{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, nil, fmt.Errorf("groups: %w", err)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, nil, fmt.Errorf("groups: %w", err)
		}
		kind := key.(string)
		if _, repeated := lists[kind]; !repeated {
			kinds = append(kinds, kind)
		}
		lists[kind] = value
	}
	return kinds, lists, nil
}

// parseItem parses an event type or an id: a string, or an integer in Python's spelling.
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

// abbreviate bounds the part of a client's message that an error repeats.
func abbreviate(s string) string {
	const maxBytes = 120
	if len(s) <= maxBytes {
		return s
	}
	return strings.ToValidUTF8(s[:maxBytes], "") + "…"
}
