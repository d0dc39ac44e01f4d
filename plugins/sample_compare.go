package plugins

import (
	"errors"
	"fmt"
	"strings"

	"github.com/edgerelay/edgerelay/plugins/internal/loosejson"
)

// Compare returns an error if the call failed or did not meet an expectation of the sample. A sample without
// expectations wants a call that succeeds.
func (s *Sample) Compare(t *Trace) error {
	if t.Verdict == Failed {
		return s.compareFailure(t.Err)
	}
	if s.Verdict != "" && s.Verdict != t.Verdict.String() {
		if t.Reason != "" {
			return fmt.Errorf("verdict %s (%s), want %s", t.Verdict, t.Reason, s.Verdict)
		}
		return fmt.Errorf("verdict %s, want %s", t.Verdict, s.Verdict)
	}
	if err := s.compareFunction(t); err != nil {
		return err
	}
	if t.Hook == OnSubscribe || t.Hook == OnConnect {
		return s.compareDecision(t)
	}
	if s.Output != nil || s.OutputText != nil {
		want := expected{s.Output, s.OutputText}
		if t.Verdict != Replace {
			return fmt.Errorf("verdict %s, want the output %.200q", t.Verdict, want.bytes())
		}
		if got := t.Outputs[0].Payload; !want.equals(got) {
			return fmt.Errorf("output %.200q, want %.200q%s", got, want.bytes(), describeDifference(want.bytes(), got))
		}
	}
	if s.Audience != nil {
		if t.Verdict == Drop {
			return fmt.Errorf("verdict drop, want the audience %#x", *s.Audience)
		}
		if got := t.Outputs[0].Audience; got != *s.Audience {
			return fmt.Errorf("audience %#x, want %#x", got, *s.Audience)
		}
	}
	return s.compareEmits(t.emitted())
}

// compareFailure checks whether the sample wants the call to fail with this error.
func (s *Sample) compareFailure(err error) error {
	switch {
	case s.Verdict != verdictError, errors.Is(err, ErrNoHook):
		return err
	case !strings.Contains(err.Error(), s.Reason):
		return fmt.Errorf("the error lacks %q: %w", s.Reason, err)
	}
	return nil
}

func (s *Sample) compareDecision(t *Trace) error {
	if s.WantClass != nil {
		if t.Verdict != Allow {
			return fmt.Errorf("verdict %s, want class %d", t.Verdict, *s.WantClass)
		}
		if t.Class != *s.WantClass {
			return fmt.Errorf("class %d, want %d", t.Class, *s.WantClass)
		}
	}
	if s.Reason != "" && s.Reason != t.Reason {
		return fmt.Errorf("verdict %s with the reason %q, want %q", t.Verdict, t.Reason, s.Reason)
	}
	return nil
}

func (s *Sample) compareEmits(got []Output) error {
	if s.Emits == nil {
		return nil
	}
	if len(got) != len(s.Emits) {
		return fmt.Errorf("%d events emitted, want %d", len(got), len(s.Emits))
	}
	for i := range s.Emits {
		want := &s.Emits[i]
		payload := expected{want.Payload, want.Text}
		group := want.Group
		if group == s.Group {
			group = ""
		}
		if got[i].Group != group || (payload.json != nil || payload.text != nil) && !payload.equals(got[i].Payload) {
			return fmt.Errorf("emitted %.200q to %q, want %.200q to %q%s", got[i].Payload, got[i].Group,
				payload.bytes(), group, describeDifference(payload.bytes(), got[i].Payload))
		}
		if want.Audience != nil && *want.Audience != got[i].Audience {
			return fmt.Errorf("emitted event %d has the audience %#x, want %#x", i+1, got[i].Audience, *want.Audience)
		}
		if want.Position != nil && *want.Position != got[i].Position.String() {
			return fmt.Errorf("emitted event %d has the position %q, want %q", i+1, got[i].Position, *want.Position)
		}
	}
	return nil
}

// expected is a payload that a sample expects, as JSON or as text.
type expected struct {
	json []byte
	text *string
}

func (e expected) bytes() []byte {
	if e.text != nil {
		return []byte(*e.text)
	}
	return e.json
}

// equals compares text byte by byte, and JSON without the space between tokens.
func (e expected) equals(got []byte) bool {
	if e.text != nil {
		return *e.text == string(got)
	}
	return loosejson.Same(e.json, got)
}

// shortPayload is the length in bytes up to which a payload is easily compared by eye.
const shortPayload = 80

// describeDifference returns the differences of two long payloads as the end of an error message.
func describeDifference(want, got []byte) string {
	if len(want) <= shortPayload && len(got) <= shortPayload {
		return ""
	}
	return "; " + strings.Join(Differences(want, got, 3), "; ")
}
