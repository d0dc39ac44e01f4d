package plugins

import (
	"strings"
	"testing"
	"time"
)

// callsOf returns the counts of calls of a duration.
func callsOf(n uint64, took time.Duration) (c callCounts) {
	c.calls = n
	c.times[timeBucket(took)] = n
	return c
}

// TestJudgeCanary covers the faults of a candidate, and failures that are none.
func TestJudgeCanary(t *testing.T) {
	failed := func(failures, calls uint64) callCounts { return callCounts{calls: calls, failures: failures} }
	tail := callsOf(800, 10*time.Microsecond)
	tail.times[timeBucket(time.Millisecond)] = 150
	limit := 0.01
	for _, c := range []struct {
		name   string
		counts canaryCounts
		want   string
	}{
		{"no events", canaryCounts{}, ""},
		{"one failure", canaryCounts{candidate: failed(1, 1)}, ""},
		{"the first two events failed", canaryCounts{candidate: failed(2, 2)}, "2 of 2 events failed"},
		{"one in ten", canaryCounts{candidate: failed(2, 20)}, "2 of 20 events failed"},
		{"a few of many", canaryCounts{candidate: failed(10, 2000)}, ""},
		{"not certainly above the limit", canaryCounts{candidate: failed(12, 1000)}, ""},
		{"certainly above the limit", canaryCounts{candidate: failed(300, 10000)}, "more than 1%"},
		{
			"the stable module fails as often",
			canaryCounts{candidate: failed(100, 1000), stable: failed(900, 9000)},
			"",
		},
		{
			"the stable module fails less often",
			canaryCounts{candidate: failed(100, 1000), stable: failed(450, 9000)},
			"of the stable module's, 450 of 9000",
		},
		{
			"as fast",
			canaryCounts{candidate: callsOf(100, time.Millisecond), stable: callsOf(900, time.Millisecond)},
			"",
		},
		{
			"slow",
			canaryCounts{candidate: callsOf(100, 5*time.Millisecond), stable: callsOf(900, time.Millisecond)},
			"half of the events took up to",
		},
		{
			"too few events for a comparison",
			canaryCounts{candidate: callsOf(49, 5*time.Millisecond), stable: callsOf(900, time.Millisecond)},
			"",
		},
		{
			"too few events of the stable module",
			canaryCounts{candidate: callsOf(100, 5*time.Millisecond), stable: callsOf(49, time.Millisecond)},
			"",
		},
		{
			"a difference of microseconds",
			canaryCounts{candidate: callsOf(100, 9*time.Microsecond), stable: callsOf(900, time.Microsecond)},
			"",
		},
		{
			"slow for some events",
			canaryCounts{candidate: tail, stable: callsOf(900, 10*time.Microsecond)},
			"nine in ten of the events took up to",
		},
		{"the same decisions", canaryCounts{same: 1000}, ""},
		{"other decisions", canaryCounts{same: 20, differ: 4}, "4 of 24 decisions"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := judgeCanary(&c.counts, &CanaryLimits{MaxErrors: 0.01, MaxSlowdown: 2, MaxDiffer: &limit})
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("the fault is %q, want %q", got, c.want)
			}
		})
	}
	slow := canaryCounts{candidate: callsOf(100, 5*time.Millisecond), stable: callsOf(900, time.Millisecond), differ: 50}
	if fault := judgeCanary(&slow, &CanaryLimits{MaxErrors: 0.01}); fault != "" {
		t.Errorf("without limits, the fault is %q", fault)
	}
}

// TestTrialForgetsGoodTimes: a burst of failures counts although thousands of events succeeded before.
func TestTrialForgetsGoodTimes(t *testing.T) {
	trial := canaryTrial{limits: CanaryLimits{MaxErrors: 0.01}}
	now := time.Unix(1_700_000_000, 0)
	counts := canaryCounts{}
	for range 300 {
		counts.candidate.calls += 1000
		now = now.Add(time.Second)
		if fault := trial.judge(&counts, now); fault != "" {
			t.Fatalf("a good candidate has the fault %q", fault)
		}
	}
	if len(trial.marks) != canaryMarks {
		t.Errorf("%d marks are kept, want %d", len(trial.marks), canaryMarks)
	}
	for i := 1; ; i++ {
		counts.candidate.calls += 1000
		counts.candidate.failures += 100
		now = now.Add(time.Second)
		if trial.judge(&counts, now) != "" {
			break
		}
		if i == 10 {
			t.Fatal("ten seconds in which a tenth of the events fail are no fault")
		}
	}
}

// TestTimeBuckets: the intervals follow each other, and none is wider than a fifth of its durations.
func TestTimeBuckets(t *testing.T) {
	last := -1
	for d := time.Duration(1); d < 3*time.Hour; d += d/50 + 1 {
		i := timeBucket(d)
		if i < last || i > last+1 {
			t.Fatalf("%v is in interval %d, after %d", d, i, last)
		}
		last = i
		ratio := float64(bucketTime(i)) / float64(d)
		if d >= 4 && i < timeBuckets-1 && (ratio < 0.8 || ratio > 1.3) {
			t.Errorf("%v is in the interval around %v", d, bucketTime(i))
		}
	}
	if last != timeBuckets-1 {
		t.Errorf("the longest durations are in interval %d of %d", last, timeBuckets)
	}
}
