//go:build linux

package main

import (
	"os"
	"testing"
	"time"
)

func TestMedianAndSpread(t *testing.T) {
	for _, c := range []struct {
		v                   []float64
		median, least, most float64
	}{
		{nil, 0, 0, 0},
		{[]float64{3}, 3, 3, 3},
		{[]float64{9, 1, 2}, 2, 1, 9},
		{[]float64{4, 1, 3, 2}, 2.5, 1, 4},
	} {
		least, most := spread(c.v)
		if m := median(c.v); m != c.median || least != c.least || most != c.most {
			t.Errorf("%v: median %v, %v to %v", c.v, m, least, most)
		}
	}
}

func TestHistogramQuantiles(t *testing.T) {
	var h, o histogram
	if h.quantile(0.5) != 0 {
		t.Error("an empty histogram has a median")
	}
	for i := range int64(10_000) {
		half := &h
		if i%2 == 0 {
			half = &o
		}
		half.record((i + 1) * 10) // 10 µs to 100 ms, evenly
	}
	h.add(&o)
	for q, want := range map[float64]time.Duration{0.01: time.Millisecond, 0.5: 50 * time.Millisecond, 0.99: 99 * time.Millisecond} {
		if got := h.quantile(q); got < want*94/100 || got > want*106/100 {
			t.Errorf("quantile %v: %v, want %v within 6 %%", q, got, want)
		}
	}
	for _, v := range []int64{-5, 0, 31, 32, 33, 1 << 20, 1 << 60} {
		if i := bucketOf(v); i < 0 || i >= len(h.Buckets) {
			t.Errorf("%d µs falls into bucket %d", v, i)
		}
	}
	for v := int64(1); v < 1<<32; v = v*5/4 + 1 {
		if mid := bucketMid(bucketOf(v)); mid < float64(v)*0.94 || mid > float64(v)*1.06 {
			t.Fatalf("%d µs is told as %.0f", v, mid)
		}
	}
}

func TestCPUClockMovesWithWork(t *testing.T) {
	before, err := cpuOf([]int{os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	// On a busy machine the work is given little CPU at first.
	began, took := time.Now(), time.Duration(0)
	for took < 5*time.Millisecond && time.Since(began) < 10*time.Second {
		after, err := cpuOf([]int{os.Getpid()})
		if err != nil {
			t.Fatal(err)
		}
		took = after - before
	}
	if took < 5*time.Millisecond || took > 10*time.Second {
		t.Errorf("%v of work took %v of CPU", time.Since(began), took)
	}
	if _, err := cpuOf([]int{1 << 22}); err == nil {
		t.Error("a process that does not exist has a clock")
	}
	if rss, err := rssOf([]int{os.Getpid()}); err != nil || rss < 1<<20 {
		t.Errorf("own memory: %d bytes, error %v", rss, err)
	}
}

func TestSummariesAreMediansBesideTheBareLoop(t *testing.T) {
	var rows []row
	for _, v := range []float64{12, 10, 50} {
		rows = append(rows, row{System: "bare", Kind: kindBurst, Clients: 10, Size: 300, CPUPerM: v})
		rows = append(rows, row{System: "edgerelay", Kind: kindBurst, Clients: 10, Size: 300, CPUPerM: v / 4})
	}
	rows = append(rows, row{System: "daphne", Kind: kindBurst, Clients: 10, Size: 300, Skip: "too many"})
	sums := summarize(rows)
	if len(sums) != 3 || sums[0].CPUPerM != 12 || sums[0].Least != 10 || sums[0].Most != 50 || sums[1].ToBare != 0.25 ||
		sums[1].Reps != 3 {
		t.Fatalf("%+v", sums)
	}
	if sums[2].why() != "too many" {
		t.Errorf("a skipped row says %q", sums[2].why())
	}
	res := &results{Medians: sums}
	if err := res.verdict(&plan{bound: 0.5}); err != nil {
		t.Errorf("a ratio of 0.25 breaks the bound 0.5: %v", err)
	}
	if res.verdict(&plan{bound: 0.2}) == nil {
		t.Error("a ratio of 0.25 keeps the bound 0.2")
	}
	rows[1].Fault = "1 lost"
	res.Medians = summarize(rows)
	if res.verdict(&plan{}) == nil {
		t.Error("a lost message passes")
	}
	if (&results{}).verdict(&plan{bound: 0.5}) == nil {
		t.Error("a run without edgerelay passes the bound")
	}
}
