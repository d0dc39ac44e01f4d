package stepped

import (
	"testing"
	"time"
)

func TestBy(t *testing.T) {
	now := time.Now()
	for _, step := range []time.Duration{-time.Hour, time.Hour, 0} {
		moved := By(now, step)
		if d := moved.Sub(now); d != 0 {
			t.Errorf("the monotonic clock moved by %v", d)
		}
		if d := moved.Round(0).Sub(now.Round(0)); d != step {
			t.Errorf("the wall clock moved by %v, want %v", d, step)
		}
	}
}
