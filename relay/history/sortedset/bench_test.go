package sortedset

import (
	"bytes"
	"testing"

	"github.com/edgerelay/edgerelay/relay"
)

func BenchmarkMark(b *testing.B) {
	h, ev := newHasher(make([]byte, keySize)), relay.Event{Group: "job_events-42", Text: bytes.Repeat([]byte("x"), 300)}
	b.ReportAllocs()
	for b.Loop() {
		h.mark(&ev, 1_764_378_000_123_456)
	}
}
