package wire

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// The delivery times of 20 frames of 1,250 bytes that arrive each millisecond.
func TestRulesDecideWhenFramesArrive(t *testing.T) {
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		rule Rule
		want string
	}{
		"none":       {Rule{}, "20 frames, in order, first after 0s, last after 0s"},
		"down":       {Rule{Down: true}, "none"},
		"delay":      {Rule{Delay: 80 * ms}, "20 frames, in order, first after 80ms, last after 80ms"},
		"loss":       {Rule{Loss: 1}, "none"},
		"duplicate":  {Rule{Duplicate: 1}, "40 frames, in order, first after 0s, last after 0s"},
		"reorder":    {Rule{Reorder: 0.2}, "20 frames, out of order, first after 0s, last after 0s"},
		"MTU passes": {Rule{MTU: 1236}, "20 frames, in order, first after 0s, last after 0s"},
		"MTU drops":  {Rule{MTU: 1235}, "none"},
		// A frame takes 10 ms.
		"rate":  {Rule{Rate: 1_000_000}, "20 frames, in order, first after 10ms, last after 181ms"},
		"queue": {Rule{Rate: 1_000_000, Queue: 5000}, "6 frames, in order, first after 10ms, last after 50ms"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := play(c.rule, 20, 1250); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// play sends frames and describes their deliveries.
func play(rule Rule, count, length int) string {
	random := rand.New(rand.NewPCG(1, 2))
	d := &direction{rule: rule}
	began := time.Unix(0, 0)
	var delays []time.Duration
	var times []time.Time
	for i := range count {
		at := began.Add(time.Duration(i) * time.Millisecond)
		for _, then := range d.pass(at, length, random) {
			times, delays = append(times, then), append(delays, then.Sub(at))
		}
	}
	if len(times) == 0 {
		return "none"
	}
	order := "in order"
	if !slices.IsSortedFunc(times, time.Time.Compare) {
		order = "out of order"
	}
	return fmt.Sprintf("%d frames, %s, first after %v, last after %v", len(times), order, delays[0], delays[len(delays)-1])
}

// Jitter stays within its bounds and keeps the order.
func TestJitterKeepsTheOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	d := &direction{rule: Rule{Delay: 80 * time.Millisecond, Jitter: 20 * time.Millisecond}}
	began, last, least, most := time.Unix(0, 0), time.Time{}, time.Hour, time.Duration(0)
	for i := range 1000 {
		at := began.Add(time.Duration(i) * 50 * time.Millisecond)
		then := d.pass(at, 100, random)[0]
		if then.Before(last) {
			t.Fatalf("frame %d overtakes", i)
		}
		last, least, most = then, min(least, then.Sub(at)), max(most, then.Sub(at))
	}
	if least < 60*time.Millisecond || least > 62*time.Millisecond || most < 98*time.Millisecond || most > 100*time.Millisecond {
		t.Errorf("delays from %v to %v, want 60ms to 100ms", least, most)
	}
}

// Shares are those of the frames.
func TestLossIsAShareOfTheFrames(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	d, lost := &direction{rule: Rule{Loss: 0.02}}, 0
	for range 10_000 {
		if len(d.pass(time.Unix(0, 0), 100, random)) == 0 {
			lost++
		}
	}
	if lost < 150 || lost > 250 {
		t.Errorf("%d of 10,000 frames are lost, want about 200", lost)
	}
}
