//go:build !wasm

package edgerelay

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// Check calls the hooks with the golden samples of a file, in order, and returns the differences from the expected
// results. `caddy edgerelay plugin test` reads the same files. Each line is a JSON object:
//
//   - hook is on_event, on_class, on_subscribe or on_tick. Without it, a sample with a class is for on_class, a sample
//     with a user and no payload is for on_subscribe, and any other sample is for on_event.
//   - group, payload (or text, which may be any text), user, class, source, sent and position are the input.
//   - clock sets the plugin's clock, see [Host.SetTime]. Times are RFC 3339 or Unix milliseconds.
//   - verdict is pass, drop or replace, of on_subscribe allow or deny, and error for a call that must fail. output (or
//     output_text), audience, emits, want_class and reason are the other expectations. All are optional.
func (h *Host) Check(hooks Hooks, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	var faults []error
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 32<<20)
	n, tried := 0, 0
	for lines.Scan() {
		n++
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		s, err := parseSample(line)
		if s != nil {
			tried++
			err = h.try(hooks, s)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s:%d: %w", file, n, err))
		}
	}
	if tried == 0 && len(faults) == 0 {
		faults = append(faults, fmt.Errorf("%s contains no sample", file))
	}
	return errors.Join(append(faults, lines.Err())...)
}

// Samples is [Host.Check] for a plugin that has only the hook for events.
func (h *Host) Samples(hook func(*Event) Verdict, file string) error {
	return h.Check(Hooks{OnEvent: hook}, file)
}

// ClassSamples is [Host.Check] for the hook that renders events for classes.
func (h *Host) ClassSamples(hook func(uint8, *Event) Verdict, file string) error {
	return h.Check(Hooks{OnClass: hook}, file)
}

// sample is a golden sample. Fields are nil if the sample lacks the member.
type sample struct {
	hook, group, source, position, verdict, reason string

	payload, user, output *string
	class, wantClass      *uint8
	sent, clock           time.Time
	audience              *uint64
	emits                 []sampleEmission
}

type sampleEmission struct {
	group    string
	payload  *string
	audience *uint64
	position *string
}

// try calls the sample's hook and returns the difference from the expected result.
func (h *Host) try(hooks Hooks, s *sample) error {
	if !s.clock.IsZero() {
		h.SetTime(s.clock)
	}
	h.Source, h.Sent, h.Position = s.source, s.sent, s.position
	payload := ""
	if s.payload != nil {
		payload = *s.payload
	}
	switch hook := s.hookName(); {
	case hook == hookEvent && hooks.OnEvent != nil:
		return s.compare(h.Event(hooks.OnEvent, s.group, payload))
	case hook == hookClass && hooks.OnClass != nil:
		if s.class == nil {
			return errors.New("no class; add class, 0 to 63")
		}
		return s.compare(h.Class(hooks.OnClass, *s.class, s.group, payload))
	case hook == hookSubscribe && hooks.OnSubscribe != nil:
		user := "null"
		if s.user != nil {
			user = *s.user
		}
		return s.compareDecision(h.Subscribe(hooks.OnSubscribe, user, s.group))
	case hook == hookTick && hooks.OnTick != nil:
		return s.compare(h.Tick(hooks.OnTick))
	case slices.Contains([]string{hookEvent, hookClass, hookSubscribe, hookTick}, hook):
		return fmt.Errorf("a sample of %s, but Hooks has no such hook", hook)
	default:
		return fmt.Errorf("unknown hook %q; use on_event, on_class, on_subscribe or on_tick", hook)
	}
}

func (s *sample) hookName() string {
	switch {
	case s.hook != "":
		return s.hook
	case s.class != nil:
		return hookClass
	case s.user != nil && s.payload == nil:
		return hookSubscribe
	}
	return hookEvent
}

// verdictError is the verdict of a sample whose call must fail.
const verdictError = "error"

func (s *sample) compare(r Result) error {
	verdict, reason := r.Verdict, ""
	if r.Err != nil {
		verdict, reason = verdictError, r.Err.Error()
	}
	switch {
	case s.verdict == "" && r.Err != nil:
		return r.Err
	case s.verdict != "" && s.verdict != verdict:
		return fmt.Errorf("verdict %s, want %s (%v)", verdict, s.verdict, r.Err)
	case s.reason != "" && !strings.Contains(reason, s.reason):
		return fmt.Errorf("the error is %q, want %q", reason, s.reason)
	case s.output != nil && verdict != "replace":
		return fmt.Errorf("verdict %s, want the output %s", verdict, *s.output)
	case s.output != nil && !same(*s.output, r.Payload):
		return fmt.Errorf("output %s, want %s", r.Payload, *s.output)
	case s.audience != nil && verdict == "drop":
		return fmt.Errorf("verdict drop, want the audience %#x", *s.audience)
	case s.audience != nil && *s.audience != r.Audience:
		return fmt.Errorf("audience %#x, want %#x", r.Audience, *s.audience)
	case s.emits != nil && len(s.emits) != len(r.Emitted):
		return fmt.Errorf("%d events emitted, want %d", len(r.Emitted), len(s.emits))
	}
	for i, want := range s.emits {
		got := r.Emitted[i]
		if want.group == s.group {
			want.group = "" // as the host returns the event's own group
		}
		switch {
		case got.Group != want.group, want.payload != nil && !same(*want.payload, got.Payload):
			return fmt.Errorf("emitted %s to %q, want %v to %q", got.Payload, got.Group, shown(want.payload), want.group)
		case want.audience != nil && *want.audience != got.Audience:
			return fmt.Errorf("emitted for audience %#x, want %#x", got.Audience, *want.audience)
		case want.position != nil && *want.position != got.Position:
			return fmt.Errorf("emitted at the position %q, want %q", got.Position, *want.position)
		}
	}
	return nil
}

func (s *sample) compareDecision(d Decision) error {
	verdict, reason := "deny", d.Reason
	switch {
	case d.Err != nil:
		verdict, reason = verdictError, d.Err.Error()
	case d.Allow:
		verdict = "allow"
	}
	switch {
	case s.verdict == "" && d.Err != nil:
		return d.Err
	case s.verdict != "" && s.verdict != verdict:
		return fmt.Errorf("verdict %s, want %s (%v)", verdict, s.verdict, reason)
	case s.wantClass != nil && (!d.Allow || *s.wantClass != d.Class):
		return fmt.Errorf("class %d (%s), want %d", d.Class, verdict, *s.wantClass)
	case s.reason != "" && (verdict != verdictError && reason != s.reason || !strings.Contains(reason, s.reason)):
		return fmt.Errorf("the reason is %q, want %q", reason, s.reason)
	}
	return nil
}

// shown returns an expected payload for an error message.
func shown(s *string) string {
	if s == nil {
		return "any payload"
	}
	return *s
}

// same compares JSON texts without the space between tokens.
func same(want, got string) bool { return want == got || compact(want) == compact(got) }

// compact removes the white space outside of strings.
func compact(text string) string {
	b, out := []byte(text), make([]byte, 0, len(text))
	for i := 0; i < len(b); {
		end := i + 1
		if b[i] == '"' {
			if end = skipString(b, i); end < 0 {
				return text
			}
		}
		if !space(b[i]) {
			out = append(out, b[i:end]...)
		}
		i = end
	}
	return string(out)
}
