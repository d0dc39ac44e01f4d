package backplane

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"
)

// A dialer makes packets smaller only when a link stalls that was made in place of a stalled one, and tries the full
// size again later.
func TestSegmentSizes(t *testing.T) {
	const proof, short, long = 40 * time.Second, 2 * time.Second, time.Minute
	stalls := func(lived time.Duration) func(*segments) bool {
		return func(s *segments) bool { return s.stalled(lived, proof) }
	}
	down := func(s *segments) bool { s.unreachable(); return false }
	silent := (*segments).silent
	ends := func(lived time.Duration) func(*segments) bool {
		return func(s *segments) bool { s.carried(lived, proof); return false }
	}
	for name, c := range map[string]struct {
		steps []func(*segments) bool
		want  []int
	}{
		"one stall":                 {[]func(*segments) bool{stalls(long)}, []int{0}},
		"an outage":                 {[]func(*segments) bool{stalls(long), down, stalls(short)}, []int{0, 0, 0}},
		"smaller and smaller":       {[]func(*segments) bool{stalls(long), stalls(short), stalls(short)}, []int{0, 1200, 536}},
		"the size is not the cause": {[]func(*segments) bool{stalls(long), stalls(short), stalls(short), stalls(short)}, []int{0, 1200, 536, 0}},
		"full size again after an end": {
			[]func(*segments) bool{stalls(long), stalls(short), stalls(short), ends(long), stalls(long)}, []int{0, 1200, 536, 0, 0},
		},
		"the known size at once": {
			[]func(*segments) bool{stalls(long), stalls(short), stalls(short), stalls(long), stalls(short)}, []int{0, 1200, 536, 0, 536},
		},
		"no answer to the handshake": {[]func(*segments) bool{silent, silent}, []int{1200, 536}},
	} {
		t.Run(name, func(t *testing.T) {
			var s segments
			for i, step := range c.steps {
				before := s.size()
				if lowered := step(&s); s.size() != c.want[i] || lowered != (s.size() > 0 && s.size() != before) {
					t.Errorf("step %d: %d bytes, lowered: %v; want %d", i, s.size(), lowered, c.want[i])
				}
			}
		})
	}
}

// Only silence speaks against the size of packets.
func TestSilence(t *testing.T) {
	for err, want := range map[error]bool{
		errTimedOut: true, errStalled: true, context.DeadlineExceeded: true, fmt.Errorf("read: %w", syscall.ETIMEDOUT): true,
		errors.New("reset"): false, RejectedSecret: false, errRedundant: false, context.Canceled: false,
	} {
		if isSilence(err) != want {
			t.Errorf("%v: silence is %v", err, !want)
		}
	}
}
