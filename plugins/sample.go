package plugins

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
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
	// Position is the event's place in the history of its group: a token, empty if there is none.
	Position string
	// Clock is the time that the plugin sees from this sample on; zero leaves the clock as it is. Without any Clock the
	// time is real.
	Clock time.Time
	// Function is the part of a sample that concerns a function: its hooks, and the effects of any hook; nil without one.
	Function *FunctionSample

	// Verdict is pass, drop or replace; allow or deny for OnSubscribe and OnConnect; pass for OnTick and the other hooks
	// of a function; error for a call that must fail.
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
	// Position, if not nil, is the position that the plugin must give the event, empty for none of its own.
	Position *string
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
	if s.Function != nil && s.Function.Binary != nil {
		return s.Function.Binary
	}
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
	case OnSubscribe, OnConnect:
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
	fault(hook&(OnSubscribe|OnTick|OnConnect) != 0 && (s.Payload != nil || s.Text != nil), "%s gets no payload", hook)
	fault(s.User != nil && hook != OnSubscribe, "user is for on_subscribe; use a sample of its own, without payload")
	fault(s.Class != nil && hook == OnSubscribe, "class is for on_class; use want_class for the expected class")
	fault(s.Class != nil && hook != OnClass && hook != OnSubscribe, "class is for on_class, not for %s", hook)
	fault(s.Class == nil && hook == OnClass, "no class; add class, 0 to %d", maxClass)
	fault(s.Class != nil && *s.Class > maxClass, "class %d; classes are 0 to %d", value(s.Class), maxClass)
	fault(s.WantClass != nil && hook != OnSubscribe, "want_class is for on_subscribe, not for %s", hook)
	fault(s.WantClass != nil && *s.WantClass > maxClass,
		"want_class %d; classes are 0 to %d", value(s.WantClass), maxClass)
	fault(s.Emits != nil && hook != OnEvent && hook != OnTick, "%s emits no events", hook)
	fault(s.Audience != nil && hook != OnEvent, "audience is for on_event, not for %s", hook)
	fault(!event && (s.Output != nil || s.OutputText != nil), "%s has no output", hook)
	fault(s.Reason != "" && hook&(OnSubscribe|OnConnect) == 0 && s.Verdict != verdictError,
		"reason is for denials and errors; use it with the verdict deny or error")
	_, err := ParsePosition(s.Position)
	fault(err != nil, "position %q: %w", s.Position, err)
	if s.Function != nil {
		s.Function.check(hook, fault)
	}
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
	fmt.Fprintf(w, "%v %q %q %q %q %v %d %q %v %q %v %q %q %q %v %v %v %d %q\n", s.hook(), s.Group, s.Payload, text(s.Text),
		s.User, s.Class != nil, value(s.Class), s.Source, s.Sent.UnixNano(), s.Position, s.Clock.UnixNano(), s.Verdict, s.Output,
		text(s.OutputText), number(s.Audience), s.Emits != nil, s.WantClass != nil, value(s.WantClass), s.Reason)
	s.Function.writeKey(w)
	for i := range s.Emits {
		e := &s.Emits[i]
		fmt.Fprintf(w, "%q %q %q %v %q\n", e.Group, e.Payload, text(e.Text), number(e.Audience), text(e.Position))
	}
}
