package sortedset

import (
	"bytes"
	"testing"
)

func BenchmarkMark(b *testing.B) {
	h, text := newHasher(make([]byte, keySize)), bytes.Repeat([]byte("x"), 300)
	b.ReportAllocs()
	for b.Loop() {
		h.mark("job_events-42", 1_764_378_000_123_456, text)
	}
}
