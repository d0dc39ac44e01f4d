package plugins

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/edgerelay/edgerelay/plugins/internal/loosejson"
)

// Sample is a golden sample: the input of a hook, and the expected result. A zero expectation is not checked; a call
// without expectations must only succeed.
type Sample struct {
	// Hook is the hook to call. Default: OnSubscribe with a User and no payload, OnClass with a Class, else OnEvent.
	Hook Hook
	// Group of the event or of the subscription.
	Group string
	// Payload of the event. Text, if not nil, is used instead: it may be any text, also one that is not JSON.
	Payload json.RawMessage
	Text    *string
	// User is the JSON value that the authorizer tells about the user, for OnSubscribe.
	User json.RawMessage
	// Class is the class to render the event for, for OnClass.
	Class *uint8
	// Source and Sent are the event's way to the node, and the time at which the emitter sent the event.
	Source string
	Sent   time.Time
	// Clock is the time that the plugin sees from this sample on; zero leaves the clock as it is. Without any Clock the
	// time is real.
	Clock time.Time

	// Verdict is pass, drop or replace; allow or deny for OnSubscribe; pass for OnTick; error for a call that must fail.
	Verdict string
	// Output is the expected payload of replace, compared without the space between JSON tokens. OutputText, if not nil,
	// is compared byte by byte.
	Output     json.RawMessage
	OutputText *string
	// Audience is the expected audience of the event's own output.
	Audience *uint64
	// Emits are the expected emitted events, in order. An empty list that is not nil allows none.
	Emits []SampleEmission
	// WantClass is the expected class of the subscriber, for OnSubscribe.
	WantClass *uint8
	// Reason is the expected reason of a denial, or a part of the expected error.
	Reason string
}

// SampleEmission is an event that a plugin must emit. An empty Group is the sample's own.
type SampleEmission struct {
	Group   string
	Payload json.RawMessage
	// Text, if not nil, is compared byte by byte instead of Payload.
	Text *string
	// Audience, if not nil, is the expected audience of the event.
	Audience *uint64
}

// verdictError is the verdict of a sample whose call must fail. A failed call in metrics is "failed".
const verdictError = "error"

// hook returns the hook that the sample is for.
func (s *Sample) hook() Hook {
	switch {
	case s.Hook != 0:
		return s.Hook
	case s.Class != nil:
		return OnClass
	case s.User != nil && s.Payload == nil && s.Text == nil:
		return OnSubscribe
	}
	return OnEvent
}

// payload returns the payload of the event.
func (s *Sample) payload() []byte {
	if s.Text != nil {
		return []byte(*s.Text)
	}
	return s.Payload
}

// check rejects members that the sample's hook has no use for. The error lists all faults.
func (s *Sample) check() error {
	var faults []error
	fault := func(wrong bool, format string, args ...any) {
		if wrong {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	hook := s.hook()
	verdicts := []string{Pass.String(), Drop.String(), Replace.String(), verdictError}
	switch hook {
	case OnSubscribe:
		verdicts = []string{Allow.String(), Deny.String(), verdictError}
	case OnEvent, OnClass:
	default:
		verdicts = []string{Pass.String(), verdictError}
	}
	event := hook == OnEvent || hook == OnClass
	fault(s.Verdict != "" && !slices.Contains(verdicts, s.Verdict),
		"invalid verdict %q of %s; use one of %v", s.Verdict, hook, verdicts)
	fault(s.Payload != nil && s.Text != nil, "both payload and text; use one of them")
	fault(s.Output != nil && s.OutputText != nil, "both output and output_text; use one of them")
	fault(event && s.Payload == nil && s.Text == nil, "no payload; add payload or text")
	fault(!event && (s.Payload != nil || s.Text != nil), "%s gets no payload", hook)
	fault(s.User != nil && hook != OnSubscribe, "user is for on_subscribe; use a sample of its own, without payload")
	fault(s.Class != nil && hook == OnSubscribe, "class is for on_class; use want_class for the expected class")
	fault(s.Class != nil && hook != OnClass && hook != OnSubscribe, "class is for on_class, not for %s", hook)
	fault(s.Class == nil && hook == OnClass, "no class; add class, 0 to %d", maxClass)
	fault(s.Class != nil && *s.Class > maxClass, "class %d; classes are 0 to %d", value(s.Class), maxClass)
	fault(s.WantClass != nil && hook != OnSubscribe, "want_class is for on_subscribe, not for %s", hook)
	fault(s.WantClass != nil && *s.WantClass > maxClass,
		"want_class %d; classes are 0 to %d", value(s.WantClass), maxClass)
	fault(s.Emits != nil && (hook == OnClass || hook == OnSubscribe), "%s emits no events", hook)
	fault(s.Audience != nil && hook != OnEvent, "audience is for on_event, not for %s", hook)
	fault(!event && (s.Output != nil || s.OutputText != nil), "%s has no output", hook)
	fault(s.Reason != "" && hook != OnSubscribe && s.Verdict != verdictError,
		"reason is for denials and errors; use it with the verdict deny or error")
	for i := range s.Emits {
		fault(s.Emits[i].Payload != nil && s.Emits[i].Text != nil, "emits: both payload and text; use one of them")
	}
	return errors.Join(faults...)
}

// value returns the number that p points to, 0 without one.
func value(p *uint8) uint8 {
	if p == nil {
		return 0
	}
	return *p
}

// writeKey writes all that identifies the sample.
func (s *Sample) writeKey(w io.Writer) {
	text := func(p *string) string {
		if p == nil {
			return ""
		}
		return "=" + *p
	}
	number := func(p *uint64) string {
		if p == nil {
			return ""
		}
		return fmt.Sprint(*p)
	}
	fmt.Fprintf(w, "%v %q %q %q %q %v %d %q %v %v %q %q %q %v %v %v %d %q\n", s.hook(), s.Group, s.Payload, text(s.Text),
		s.User, s.Class != nil, value(s.Class), s.Source, s.Sent.UnixNano(), s.Clock.UnixNano(), s.Verdict, s.Output,
		text(s.OutputText), number(s.Audience), s.Emits != nil, s.WantClass != nil, value(s.WantClass), s.Reason)
	for i := range s.Emits {
		e := &s.Emits[i]
		fmt.Fprintf(w, "%q %q %q %v\n", e.Group, e.Payload, text(e.Text), number(e.Audience))
	}
}

// maxSampleLine is the longest line of a file of samples in bytes.
const maxSampleLine = 32 << 20

// SampleReader reads a file of samples or a recording, one JSON object a line, without holding more than a sample. It
// also reads objects of several lines, and several samples in a line.
type SampleReader struct {
	lines *bufio.Scanner
	group string
	line  int    // where the current sample begins
	next  int    // lines read
	rest  []byte // of the line, after its first sample
	// Missed is the number of events that the recording lacks so far, because they arrived too fast.
	Missed int
}

// NewSampleReader returns a reader. group is the group of events that name none.
func NewSampleReader(r io.Reader, group string) *SampleReader {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxSampleLine)
	return &SampleReader{lines: lines, group: group}
}

// Line returns the number of the line at which the sample that Next has read begins, from 1 on.
func (r *SampleReader) Line() int { return r.line }

// Next returns the next sample, io.EOF at the end, or an error that names the line.
func (r *SampleReader) Next() (Sample, error) {
	for {
		text, err := r.readText()
		if err == io.EOF {
			return Sample{}, err
		}
		var s Sample
		if err == nil {
			if n, ok := missedEvents(text); ok {
				r.Missed += n
				continue
			}
			s, err = ParseSample(text, r.group)
		}
		if err != nil {
			return s, fmt.Errorf("line %d: %w", r.line, err)
		}
		return s, nil
	}
}

// readText returns the text of the next sample or payload.
func (r *SampleReader) readText() ([]byte, error) {
	text := r.rest
	r.rest = nil
	if len(text) == 0 {
		var err error
		if text, err = r.readLine(); err != nil {
			return nil, err
		}
		r.line = r.next
		if isOpenObject(text) {
			if text, err = r.readObject(text); err != nil {
				return nil, err
			}
		}
	}
	// A line may have several samples. A payload that is followed by something else is no JSON, and stays whole.
	if object, rest, ok := loosejson.CutObject(text); ok && len(rest) > 0 {
		members, _ := loosejson.Members(object)
		if isSample, err := classifyLine(object, members, true); isSample || err != nil {
			text, r.rest = object, rest
		}
	}
	return text, nil
}

// readLine returns the next line that is not blank.
func (r *SampleReader) readLine() ([]byte, error) {
	for r.lines.Scan() {
		r.next++
		line := r.lines.Bytes()
		if r.next == 1 {
			line = bytes.TrimPrefix(line, []byte("\ufeff"))
		}
		if len(bytes.TrimSpace(line)) > 0 {
			return line, nil
		}
	}
	err := r.lines.Err()
	if err == nil {
		return nil, io.EOF
	}
	r.line = r.next + 1
	if errors.Is(err, bufio.ErrTooLong) {
		return nil, errTooLong
	}
	return nil, err
}

var errTooLong = fmt.Errorf("more than %d bytes; split the file into lines, a sample each", maxSampleLine)

// isOpenObject reports whether a line begins an object that goes on in the next line. Tools break lines behind certain
// characters; any other line without an end is a payload that is not JSON.
func isOpenObject(line []byte) bool {
	line = bytes.TrimSpace(line)
	if !bytes.HasPrefix(line, []byte("{")) || bytes.IndexByte([]byte("{,["), line[len(line)-1]) < 0 {
		return false
	}
	_, _, complete := loosejson.CutObject(line)
	return !complete
}

// readObject reads the further lines of the object that a line begins.
func (r *SampleReader) readObject(line []byte) ([]byte, error) {
	text := bytes.Clone(line)
	for {
		line, err := r.readLine()
		if err == io.EOF {
			return nil, errors.New("an object without end; write each sample into one line")
		}
		if err != nil {
			return nil, err
		}
		text = append(append(text, '\n'), line...)
		if len(text) > maxSampleLine {
			return nil, errTooLong
		}
		if end := bytes.TrimSpace(line); bytes.IndexByte([]byte("}{"), end[len(end)-1]) < 0 {
			continue // saves a search in each line of a long object
		}
		if _, _, ok := loosejson.CutObject(text); ok {
			return text, nil
		}
	}
}

// ReadSamples reads all samples of a file. group is the group of events that name none.
func ReadSamples(r io.Reader, group string) (samples []Sample, err error) {
	for lines := NewSampleReader(r, group); ; {
		s, err := lines.Next()
		if err == io.EOF {
			return samples, nil
		}
		if err != nil {
			return nil, fmt.Errorf("sample %d: %w", len(samples)+1, err)
		}
		samples = append(samples, s)
	}
}

// missedEvents reads the line of a recording that stands for events that are missing.
func missedEvents(line []byte) (n int, ok bool) {
	if !bytes.Contains(line, []byte(`"dropped"`)) {
		return 0, false
	}
	members, ok := loosejson.Members(line)
	if !ok || len(members) > 3 {
		return 0, false
	}
	for _, m := range members {
		switch m.Name {
		case "at", "group":
		case "dropped":
			if json.Unmarshal(m.Value, &n) != nil || n <= 0 {
				return 0, false
			}
		default:
			return 0, false
		}
	}
	return n, n > 0
}

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
	for _, name := range []string{"verdict", "output_text", "emits", "want_class"} {
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
		"hook":    func(s *Sample, v []byte) error { return unmarshalHook(v, &s.Hook) },
		"group":   text(func(s *Sample) *string { return &s.Group }),
		"payload": payload,
		"data":    payload,
		"text":    func(s *Sample, v []byte) error { return json.Unmarshal(v, &s.Text) },
		"user":    raw(func(s *Sample) *json.RawMessage { return &s.User }),
		"class":   func(s *Sample, v []byte) error { return json.Unmarshal(v, &s.Class) },
		"source":  text(func(s *Sample) *string { return &s.Source }),
		"sent":    moment(func(s *Sample) *time.Time { return &s.Sent }),
		"clock":   moment(func(s *Sample) *time.Time { return &s.Clock }),
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
			default:
				err = errors.New("unknown member; use group, payload, text, audience")
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
