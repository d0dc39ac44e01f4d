//go:build !wasm

package edgerelay

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// Sample is a golden sample: a line of a file that `caddy edgerelay plugin test` also reads.
type Sample struct {
	// Class is the class to render the event for, see [Host.ClassSamples].
	Class   uint8           `json:"class,omitempty"`
	Group   string          `json:"group"`
	Payload json.RawMessage `json:"payload"`
	// Verdict is pass, drop or replace.
	Verdict string `json:"verdict"`
	// Output is the expected payload of replace; if empty, any payload will do.
	Output json.RawMessage `json:"output,omitempty"`
	// Emits are the expected emitted events; if empty, any events will do.
	Emits []struct {
		Group   string          `json:"group"`
		Payload json.RawMessage `json:"payload"`
	} `json:"emits,omitempty"`
}

// Samples calls a hook with the events of a file, in order, and returns the differences from the expected results.
func (h *Host) Samples(hook func(*Event) Verdict, file string) error {
	return samples(file, func(s *Sample) Result { return h.Event(hook, s.Group, string(s.Payload)) })
}

// ClassSamples is like [Host.Samples], for a hook that renders events for classes.
func (h *Host) ClassSamples(hook func(uint8, *Event) Verdict, file string) error {
	return samples(file, func(s *Sample) Result { return h.Class(hook, s.Class, s.Group, string(s.Payload)) })
}

func samples(file string, give func(*Sample) Result) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	var faults []error
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	n, tried := 0, 0
	for lines.Scan() {
		n++
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var s Sample
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			return fmt.Errorf("%s:%d: %w", file, n, err)
		}
		tried++
		if err := s.compare(give(&s)); err != nil {
			faults = append(faults, fmt.Errorf("%s:%d: %w", file, n, err))
		}
	}
	if tried == 0 {
		faults = append(faults, fmt.Errorf("%s contains no sample", file))
	}
	return errors.Join(append(faults, lines.Err())...)
}

func (s *Sample) compare(r Result) error {
	if r.Verdict != s.Verdict {
		return fmt.Errorf("verdict %s, want %s (%v)", r.Verdict, s.Verdict, r.Err)
	}
	if len(s.Output) > 0 && !same(s.Output, r.Payload) {
		return fmt.Errorf("output %s, want %s", r.Payload, s.Output)
	}
	if len(s.Emits) > 0 && len(s.Emits) != len(r.Emitted) {
		return fmt.Errorf("%d events emitted, want %d", len(r.Emitted), len(s.Emits))
	}
	for i, e := range s.Emits {
		if got := r.Emitted[i]; got.Group != e.Group || !same(e.Payload, got.Payload) {
			return fmt.Errorf("emitted %s to %q, want %s to %q", got.Payload, got.Group, e.Payload, e.Group)
		}
	}
	return nil
}

// same compares JSON texts without the space between tokens, and other texts byte by byte.
func same(want json.RawMessage, got string) bool {
	var a, b bytes.Buffer
	if json.Compact(&a, want) != nil || json.Compact(&b, []byte(got)) != nil {
		return string(want) == got
	}
	return a.String() == b.String()
}
