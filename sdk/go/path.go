//go:build !wasm

package edgerelay

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// find looks up a path as the relay does, with the standard library's decoder. The value is doc[from:to].
func find(doc []byte, path string) (from, to int, ok bool) {
	for names := split(path); ; names = names[1:] {
		d := json.NewDecoder(bytes.NewReader(doc[from:]))
		if len(names) == 0 {
			var value json.RawMessage
			if d.Decode(&value) != nil {
				return 0, 0, false
			}
			to = from + int(d.InputOffset())
			return to - len(value), to, true
		}
		at, ok := step(d, names[0])
		if !ok {
			return 0, 0, false
		}
		from += at
		for from < len(doc) && (space(doc[from]) || doc[from] == ':' || doc[from] == ',') {
			from++
		}
	}
}

// step returns the start of the member or element, before white space and punctuation.
func step(d *json.Decoder, name string) (int, bool) {
	open, err := d.Token()
	if err != nil {
		return 0, false
	}
	index, err := strconv.Atoi(name)
	switch {
	case open == json.Delim('{'):
	case open == json.Delim('[') && err == nil && index >= 0 && name[0] != '+' && len(name) < 10:
	default:
		return 0, false
	}
	for i := 0; d.More(); i++ {
		found := i == index
		if open == json.Delim('{') {
			key, err := d.Token()
			if err != nil {
				return 0, false
			}
			found = key == name
		}
		if found {
			return int(d.InputOffset()), true
		}
		var skipped json.RawMessage
		if d.Decode(&skipped) != nil {
			return 0, false
		}
	}
	return 0, false
}

// split splits a path at its dots. A backslash escapes the next character.
func split(path string) (names []string) {
	if path == "" {
		return nil
	}
	name := []byte{}
	for i := 0; i < len(path); i++ {
		switch {
		case path[i] == '\\' && i+1 < len(path):
			i++
			name = append(name, path[i])
		case path[i] == '.':
			names = append(names, string(name))
			name = name[:0]
			if i == len(path)-1 {
				return names
			}
		default:
			name = append(name, path[i])
		}
	}
	return append(names, string(name))
}

// decoded returns the text of a string, and any other value unchanged.
func decoded(value []byte) []byte {
	var s string
	if len(value) > 0 && value[0] == '"' && json.Unmarshal(value, &s) == nil {
		return []byte(s)
	}
	return value
}
