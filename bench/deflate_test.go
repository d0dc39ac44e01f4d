//go:build linux

package main

import (
	"bytes"
	"compress/flate"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit/jobevents"
)

// The receiver's decoder reads the messages of a compressor that keeps its window, also beyond the window's size.
func TestInflater(t *testing.T) {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, 5)
	if err != nil {
		t.Fatal(err)
	}
	job, f := jobevents.New(1, 1), inflater{}
	var own, other *state
	for i := range 60 {
		want := bytes.Repeat(job.Next(), 1+i%20)
		out.Reset()
		if _, err := w.Write(want); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		message := bytes.TrimSuffix(out.Bytes(), []byte("\x00\x00\xff\xff"))
		if own, err = f.message(own, message); err != nil || !bytes.Equal(own.text, want) {
			t.Fatalf("message %d: %v", i, err)
		}
		if other, err = f.message(other, message); err != nil || other != own {
			t.Fatalf("message %d: a client that got the same is in another state: %v", i, err)
		}
	}
}

// An event with the text of a job has its number and time, and a size that tells of the kind.
func TestJobEventsAreParsed(t *testing.T) {
	s := newSource()
	findDeflate("two").prepare(&running{}, s)
	for _, size := range []int{300, jobSize} {
		s.resize(size)
		for range 5 {
			want := s.next
			event := s.event()
			if seq, micros, ok := parseEvent(event); !ok || seq != want || micros == 0 {
				t.Fatalf("%d, %v: %.80s", seq, ok, event)
			}
			if len(event) >= jobSize != (size >= jobSize) {
				t.Errorf("an event of %d bytes for %d", len(event), size)
			}
		}
	}
}
