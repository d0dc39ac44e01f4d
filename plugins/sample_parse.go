package plugins

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/edgerelay/edgerelay/plugins/internal/loosejson"
)

// ParseSample parses a line of a file of samples. A line without the members of a sample is a payload itself, JSON or
// not. group is the group of samples that name none.
// See docs/decisions/plugins.md#why-is-a-line-without-a-samples-members-a-payload
func ParseSample(line []byte, group string) (s Sample, err error) {
	if !utf8.Valid(line) {
		return s, errors.New("not UTF-8; the relay delivers no such event")
	}
	members, object := loosejson.Members(line)
	isSample, err := classifyLine(line, members, object)
	switch {
	case err != nil:
		return s, err
	case isSample:
		err = s.setMembers(members)
	default:
		s.setPayload(bytes.Clone(line))
	}
	if hook := s.hook(); s.Group == "" && hook&(OnEvent|OnClass|OnSubscribe) != 0 {
		s.Group = group
	}
	if err == nil {
		err = s.check()
	}
	return s, err
}

// setPayload sets a payload that may be no JSON.
func (s *Sample) setPayload(b []byte) {
	if json.Valid(b) {
		s.Payload = b
		return
	}
	text := string(b)
	s.Text = &text
}

// classifyLine reports whether a line is a sample; otherwise the line is a payload. An error means that the line was
// probably meant as a sample.
func classifyLine(line []byte, members []loosejson.Member, object bool) (isSample bool, err error) {
	if !object {
		return false, rejectBrokenSample(bytes.TrimSpace(line))
	}
	has := map[string]bool{}
	known := true
	for _, m := range members {
		has[m.Name] = m.Name != "hook" || bytes.HasPrefix(m.Value, []byte(`"on_`))
		known = known && sampleMembers[m.Name] != nil
	}
	switch input := has["text"] || has["user"] || has["data"]; {
	case has["payload"], has["hook"]:
		return true, nil
	case input && (known || has["group"]):
		return true, nil
	}
	for _, name := range []string{"verdict", "output_text", "emits", "want_class", "effects"} {
		if has[name] {
			return false, fmt.Errorf("a sample with %q, but without input; add payload, text, user or hook. "+
				"If the line is a payload, write it as {\"payload\": …}", name)
		}
	}
	return false, nil
}

// rejectBrokenSample returns an error for a line that is not JSON and was probably meant as a sample. As a payload, it
// would hide the expectation.
func rejectBrokenSample(line []byte) error {
	if !bytes.HasPrefix(line, []byte("{")) {
		return nil
	}
	if isOpenObject(line) {
		return errors.New("the line ends inside of an object; write each sample into one line")
	}
	if bytes.Contains(line, []byte(`"payload"`)) || bytes.Contains(line, []byte(`"verdict"`)) {
		return errors.New(`a sample that is not JSON; if the line is a payload, write it as {"text": "…"}`)
	}
	return nil
}

// sampleMembers are the members of a sample. data and at are those of the command tail.
var sampleMembers map[string]func(s *Sample, v []byte) error

func init() { // the functions below refer to the map
	text := func(field func(s *Sample) *string) func(*Sample, []byte) error {
		return func(s *Sample, v []byte) error { return json.Unmarshal(v, field(s)) }
	}
	raw := func(field func(s *Sample) *json.RawMessage) func(*Sample, []byte) error {
		return func(s *Sample, v []byte) error {
			*field(s) = bytes.Clone(v)
			return nil
		}
	}
	moment := func(field func(s *Sample) *time.Time) func(*Sample, []byte) error {
		return func(s *Sample, v []byte) (err error) {
			*field(s), err = parseTime(v)
			return err
		}
	}
	payload := raw(func(s *Sample) *json.RawMessage { return &s.Payload })
	sampleMembers = map[string]func(s *Sample, v []byte) error{
		"hook":     func(s *Sample, v []byte) error { return unmarshalHook(v, &s.Hook) },
		"group":    text(func(s *Sample) *string { return &s.Group }),
		"payload":  payload,
		"data":     payload,
		"text":     func(s *Sample, v []byte) error { return json.Unmarshal(v, &s.Text) },
		"user":     raw(func(s *Sample) *json.RawMessage { return &s.User }),
		"class":    func(s *Sample, v []byte) error { return json.Unmarshal(v, &s.Class) },
		"source":   text(func(s *Sample) *string { return &s.Source }),
		"sent":     moment(func(s *Sample) *time.Time { return &s.Sent }),
		"position": text(func(s *Sample) *string { return &s.Position }),
		"clock":    moment(func(s *Sample) *time.Time { return &s.Clock }),
		"at": func(s *Sample, v []byte) error {
			t, err := parseTime(v)
			if s.Clock.IsZero() {
				s.Clock = t
			}
			return err
		},
		"verdict":     text(func(s *Sample) *string { return &s.Verdict }),
		"output":      raw(func(s *Sample) *json.RawMessage { return &s.Output }),
		"output_text": func(s *Sample, v []byte) error { return json.Unmarshal(v, &s.OutputText) },
		"audience":    func(s *Sample, v []byte) error { return unmarshalAudience(v, &s.Audience) },
		"emits":       func(s *Sample, v []byte) error { return s.setEmits(v) },
		"want_class":  func(s *Sample, v []byte) error { return json.Unmarshal(v, &s.WantClass) },
		"reason":      text(func(s *Sample) *string { return &s.Reason }),
	}
	addFunctionMembers()
}

// setMembers sets the fields of a sample. The error lists all faults.
func (s *Sample) setMembers(members []loosejson.Member) error {
	var faults []error
	seen := map[string]bool{}
	for _, m := range members {
		set := sampleMembers[m.Name]
		switch {
		case set == nil:
			faults = append(faults, fmt.Errorf("unknown member %q of a sample; use some of %s", m.Name, memberNames()))
		case seen[m.Name]:
			faults = append(faults, fmt.Errorf("the member %q occurs twice", m.Name))
		default:
			if err := set(s, m.Value); err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", m.Name, err))
			}
		}
		seen[m.Name] = true
	}
	return errors.Join(faults...)
}

func memberNames() string {
	var names []string
	for name := range sampleMembers {
		if name != "data" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// UnmarshalJSON decodes a sample, and rejects unknown members by name.
func (s *Sample) UnmarshalJSON(b []byte) error {
	members, ok := loosejson.Members(b)
	if !ok {
		return errors.New("a sample must be an object")
	}
	*s = Sample{}
	if err := s.setMembers(members); err != nil {
		return err
	}
	return s.check()
}

func (s *Sample) setEmits(v []byte) error {
	list, ok := loosejson.Elements(v)
	if !ok {
		return errors.New("use a list of objects")
	}
	s.Emits = []SampleEmission{}
	for _, element := range list {
		members, ok := loosejson.Members(element)
		if !ok {
			return errors.New("use a list of objects")
		}
		var e SampleEmission
		for _, m := range members {
			var err error
			switch m.Name {
			case "group":
				err = json.Unmarshal(m.Value, &e.Group)
			case "payload":
				e.Payload = bytes.Clone(m.Value)
			case "text":
				err = json.Unmarshal(m.Value, &e.Text)
			case "audience":
				err = unmarshalAudience(m.Value, &e.Audience)
			case "position":
				err = json.Unmarshal(m.Value, &e.Position)
			default:
				err = errors.New("unknown member; use group, payload, text, audience, position")
			}
			if err != nil {
				return fmt.Errorf("%s: %w", m.Name, err)
			}
		}
		s.Emits = append(s.Emits, e)
	}
	return nil
}

func unmarshalHook(v []byte, h *Hook) error {
	var name string
	if err := json.Unmarshal(v, &name); err != nil {
		return err
	}
	for candidate := OnEvent; candidate&anyHook != 0; candidate <<= 1 {
		if candidate.String() == name {
			*h = candidate
			return nil
		}
	}
	return fmt.Errorf("unknown hook %q; use one of %s", name, strings.ReplaceAll(anyHook.String(), "|", ", "))
}

// unmarshalAudience decodes a mask of classes: a number, -1 for all classes, or text such as "0x6".
func unmarshalAudience(v []byte, mask **uint64) error {
	v = bytes.Trim(v, `"`)
	all := uint64(allClasses)
	if string(v) == "-1" {
		*mask = &all
		return nil
	}
	n, err := strconv.ParseUint(string(v), 0, 64)
	if err != nil {
		return fmt.Errorf(`invalid audience %s; use a mask of classes such as 6, "0x6" or -1`, v)
	}
	*mask = &n
	return nil
}

// parseTime decodes a time: RFC 3339 text, or Unix milliseconds.
func parseTime(v []byte) (t time.Time, err error) {
	if len(v) > 0 && v[0] == '"' {
		if err = json.Unmarshal(v, &t); err != nil {
			err = fmt.Errorf("invalid time %s; use RFC 3339, such as \"2026-01-02T15:04:05Z\", or Unix milliseconds", v)
		}
		return t, err
	}
	var ms float64
	const limit = 1 << 53
	if err = json.Unmarshal(v, &ms); err != nil || ms < -limit || ms > limit {
		return t, fmt.Errorf("invalid time %s; use RFC 3339, such as \"2026-01-02T15:04:05Z\", or Unix milliseconds", v)
	}
	return time.UnixMilli(int64(ms)).UTC(), nil
}
