//go:build !wasm

package edgerelay

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// jsonMember is a member of an object, as JSON text.
type jsonMember struct {
	name  string
	value []byte
}

// members splits an object. The values may be no JSON, such as NaN. It reports false for any other text.
func members(text []byte) (list []jsonMember, ok bool) {
	i := skipSpace(text, 0)
	if i >= len(text) || text[i] != '{' || skipSpace(text, max(0, skipValue(text, i))) != len(text) {
		return nil, false
	}
	if i = skipSpace(text, i+1); peek(text, i) == '}' {
		return nil, true
	}
	for {
		if i = skipSpace(text, i); peek(text, i) != '"' {
			return nil, false
		}
		start := i
		if i = skipString(text, i); i < 0 {
			return nil, false
		}
		name := string(decoded(text[start:i]))
		if i = skipSpace(text, i); peek(text, i) != ':' {
			return nil, false
		}
		start = skipSpace(text, i+1)
		if i = skipValue(text, start); i <= start {
			return nil, false
		}
		list = append(list, jsonMember{name, text[start:i]})
		switch i = skipSpace(text, i); peek(text, i) {
		case ',':
			i++
		case '}':
			return list, true
		default:
			return nil, false
		}
	}
}

// peek returns the byte at i, 0 behind the end.
func peek(text []byte, i int) byte {
	if i >= len(text) {
		return 0
	}
	return text[i]
}

// parseSample parses a line of a file of samples. A line without the members of a sample is a payload itself. Of a line
// that stands for events that a recording lacks, it returns nil.
func parseSample(line []byte) (*sample, error) {
	list, ok := members(line)
	if isGap(list) {
		return nil, nil
	}
	if isSample, err := classify(list); err != nil {
		return nil, err
	} else if !ok || !isSample {
		payload := string(line)
		return &sample{group: "test", payload: &payload}, nil
	}
	s := &sample{}
	seen := map[string]bool{}
	for _, m := range list {
		err := s.set(m)
		if seen[m.name] {
			err = errors.New("the member occurs twice")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		seen[m.name] = true
	}
	return s, nil
}

// sampleMembers are the members of a sample. data and at are those of a recording.
var sampleMembers = []string{
	"at", "audience", "class", "clock", "data", "emits", "group", "hook", "output", "output_text", "payload", "position",
	"reason", "sent", "source", "text", "user", "verdict", "want_class",
}

// classify reports whether an object is a sample; otherwise it is a payload. An error means that it was probably meant
// as a sample.
func classify(list []jsonMember) (isSample bool, err error) {
	has, known := map[string]bool{}, true
	for _, m := range list {
		has[m.name] = true
		known = known && slices.Contains(sampleMembers, m.name)
	}
	switch {
	case has["payload"], has["hook"]:
		return true, nil
	case (has["text"] || has["user"] || has["data"]) && (known || has["group"]):
		return true, nil
	}
	for _, name := range []string{"verdict", "output_text", "emits", "want_class"} {
		if has[name] {
			return false, fmt.Errorf("a sample with %q, but without input; add payload, text, user or hook", name)
		}
	}
	return false, nil
}

// isGap reports whether an object stands for events that a recording lacks.
func isGap(list []jsonMember) bool {
	dropped := false
	for _, m := range list {
		dropped = dropped || m.name == "dropped"
		if !slices.Contains([]string{"at", "group", "dropped"}, m.name) {
			return false
		}
	}
	return dropped
}

func (s *sample) set(m jsonMember) (err error) {
	raw := func(p **string) error {
		text := string(m.value)
		*p = &text
		return nil
	}
	switch m.name {
	case "hook":
		return json.Unmarshal(m.value, &s.hook)
	case "group":
		return json.Unmarshal(m.value, &s.group)
	case "payload", "data":
		return raw(&s.payload)
	case "text":
		return json.Unmarshal(m.value, &s.payload)
	case "user":
		return raw(&s.user)
	case "class":
		return json.Unmarshal(m.value, &s.class)
	case "source":
		return json.Unmarshal(m.value, &s.source)
	case "position":
		return json.Unmarshal(m.value, &s.position)
	case "sent":
		s.sent, err = parseTime(m.value)
		return err
	case "clock", "at":
		s.clock, err = parseTime(m.value)
		return err
	case "verdict":
		return json.Unmarshal(m.value, &s.verdict)
	case "output":
		return raw(&s.output)
	case "output_text":
		return json.Unmarshal(m.value, &s.output)
	case "audience":
		s.audience, err = parseAudience(m.value)
		return err
	case "emits":
		return s.setEmits(m.value)
	case "want_class":
		return json.Unmarshal(m.value, &s.wantClass)
	case "reason":
		return json.Unmarshal(m.value, &s.reason)
	}
	return errors.New("unknown member of a sample")
}

func (s *sample) setEmits(list []byte) error {
	s.emits = []sampleEmission{}
	for i := 0; ; i++ {
		from, to, ok := find(list, strconv.Itoa(i))
		if !ok {
			return nil
		}
		var e sampleEmission
		parts, ok := members(list[from:to])
		if !ok {
			return errors.New("use a list of objects")
		}
		for _, m := range parts {
			var err error
			switch m.name {
			case "group":
				err = json.Unmarshal(m.value, &e.group)
			case "payload":
				text := string(m.value)
				e.payload = &text
			case "text":
				err = json.Unmarshal(m.value, &e.payload)
			case "audience":
				e.audience, err = parseAudience(m.value)
			case "position":
				err = json.Unmarshal(m.value, &e.position)
			default:
				err = errors.New("unknown member; use group, payload, text, audience, position")
			}
			if err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
		}
		s.emits = append(s.emits, e)
	}
}

// parseAudience decodes a mask of classes: a number, -1 for all classes, or text such as "0x6".
func parseAudience(value []byte) (*uint64, error) {
	text := string(decoded(value))
	mask, err := Everybody, error(nil)
	if text != "-1" {
		mask, err = strconv.ParseUint(text, 0, 64)
	}
	return &mask, err
}

// parseTime decodes a time: RFC 3339 text, or Unix milliseconds.
func parseTime(value []byte) (t time.Time, err error) {
	if value[0] == '"' {
		err = json.Unmarshal(value, &t)
		return t, err
	}
	ms, err := strconv.ParseFloat(string(value), 64)
	return time.UnixMilli(int64(ms)), err
}
