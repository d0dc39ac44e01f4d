package sse

import (
	"fmt"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
)

// lines is a Form that writes payloads as lines, and counts them.
func lines(calls *int) *Form {
	return &Form{Payload: func(dst []byte, text bool, payload []byte) []byte {
		*calls++
		return append(fmt.Appendf(dst, "%v ", text), append(payload, '\n')...)
	}}
}

// All clients share the bytes that are made of a buffer; a single frame without a function is not even copied.
func TestSharedBytes(t *testing.T) {
	calls := 0
	f := lines(&calls)
	frames := relay.AppendFrame(relay.AppendFrame(nil, []byte("a")), []byte("b"))
	first := f.shared(frames)
	if string(first) != "true a\ntrue b\n" || calls != 2 {
		t.Fatalf("got %q after %d calls", first, calls)
	}
	for range 100 {
		if again := f.shared(frames); &again[0] != &first[0] {
			t.Fatal("the bytes were made again")
		}
	}
	if string(f.shared(frames[:3])) != "true a\n" {
		t.Error("a shorter buffer at the same place has the same bytes")
	}
	plain := &Form{}
	if one := plain.shared(frames[:3]); &one[0] != &frames[2] {
		t.Error("a single frame was copied")
	}
	if two := plain.shared(frames); string(two) != "ab" {
		t.Errorf("got %q", two)
	}
}

// A worker writes a sequence of buffers to one client after another, and other workers do the same.
func TestSharedSequences(t *testing.T) {
	calls := 0
	f := lines(&calls)
	var buffers [][]byte
	for i := range maxCached {
		buffers = append(buffers, relay.AppendFrame(nil, fmt.Appendf(nil, "%d", i)))
	}
	for range 10 {
		for _, b := range buffers {
			f.shared(b)
		}
	}
	if calls != len(buffers) {
		t.Errorf("%d buffers were converted %d times for 10 clients", len(buffers), calls)
	}
}

// Kept bytes leave memory by themselves.
func TestSharedBytesLeaveMemory(t *testing.T) {
	calls := 0
	f := lines(&calls)
	f.shared(relay.AppendFrame(nil, []byte(strings.Repeat("a", 1000))))
	testkit.Eventually(t, "the cache is empty", func() bool {
		empty := true
		f.made.buffers.Range(func(any, any) bool {
			empty = false
			return false
		})
		return empty
	})
}
