package redisnet

import "testing"

// TestRing holds the ring to values that channels_redis's formula gives.
func TestRing(t *testing.T) {
	for _, c := range []struct {
		value   string
		n, want int
	}{
		// int((crc32(value) & 0xFFF) / (4096 / n)) worked out by Python
		{"jobs-status_changed", 3, 2},
		{"job_events-42", 3, 0},
		{"specific.abc!", 3, 2},
		{"job_events-42", 7, 1},
	} {
		if got := RingIndex(c.value, c.n); got != c.want {
			t.Errorf("ringIndex(%q, %d) = %d, want %d", c.value, c.n, got, c.want)
		}
	}
}
