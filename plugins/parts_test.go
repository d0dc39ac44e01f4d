package plugins

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, yes, no string
	}{
		{"job_events-*", "job_events-1 job_events- job_events-*", "job_events job-events-1 xjob_events-1"},
		{"*", "a job-1", ""},
		{"jobs", "jobs", "job jobss"},
		{"*-1", "a-1 -1 --1", "a-12 1"},
		{"a*b*c", "abc aXbYc abbcc acbc", "ab abcd cba"},
		{"**a", "a ba", "b ab"},
		{"a.b", "a.b", "aXb"},
	} {
		for _, s := range strings.Fields(c.yes) {
			if !match(c.pattern, s) {
				t.Errorf("%s does not match %s", c.pattern, s)
			}
		}
		for _, s := range strings.Fields(c.no) {
			if match(c.pattern, s) {
				t.Errorf("%s matches %s", c.pattern, s)
			}
		}
	}
	if match("a", "") || !match("*", "") {
		t.Error("the empty name does not match as it should")
	}
	start := time.Now()
	if match(strings.Repeat("*a", 100)+"b", strings.Repeat("a", 120)) || time.Since(start) > time.Second {
		t.Errorf("a bad pattern takes %v", time.Since(start))
	}
}

// TestRoutesForget: with more groups than the table has places, every group has the right route.
func TestRoutesForget(t *testing.T) {
	p := pipeline(t, Options{}, Spec{Name: "pass", Wasm: fixture(t, "pass"), Groups: []string{"g-*"}})
	for range 2 {
		for i := range 20_000 {
			if !p.Matches(fmt.Sprint("g-", i)) || p.Matches(fmt.Sprint("h-", i)) {
				t.Fatal("a group has the wrong route")
			}
		}
	}
}

func TestStore(t *testing.T) {
	now := time.Unix(100, 0)
	s := newStore(1000, func() time.Time { return now })
	get := func(k string) string {
		v, ok := s.get([]byte(k), nil)
		if !ok {
			return "-"
		}
		return string(v)
	}
	set := func(k, v string, ttl time.Duration) bool { return s.set([]byte(k), []byte(v), ttl) }
	if !set("a", "1", time.Second) || !set("b", "2", 0) || get("a") != "1" || get("b") != "2" {
		t.Fatal("values are not kept")
	}
	if set("big", strings.Repeat("x", 1000), 0) || get("big") != "-" {
		t.Error("the limit is not kept")
	}
	if !set("c", strings.Repeat("x", 700), 0) || set("d", strings.Repeat("x", 50), 0) {
		t.Error("the sizes are not added up")
	}
	if !set("c", strings.Repeat("y", 700), 0) {
		t.Error("a full store does not replace a value by another of the same size")
	}
	now = now.Add(time.Second)
	if !set("d", strings.Repeat("x", 50), 0) || get("a") != "-" {
		t.Error("expired entries make no room")
	}
	set("b", "", 0)
	set("c", "", 0)
	set("d", "", 0)
	if s.bytes() != 0 || len(s.entries) != 0 {
		t.Errorf("an empty store has %d bytes", s.bytes())
	}
	for i, want := range []int64{5, 8} {
		if n, ok := s.incr([]byte("n"), 5-2*int64(i), time.Second); n != want || !ok {
			t.Errorf("the count is %d, want %d", n, want)
		}
	}
	set("text", "x", 0)
	if _, ok := s.incr([]byte("text"), 1, 0); ok {
		t.Error("a value that is not an integer is incremented")
	}
	if ttl(math.MaxUint64) != 0 || ttl(5) != 5*time.Millisecond {
		t.Error("a TTL is converted wrongly")
	}
}

// TestBreakerPermitsOneTrial: of many concurrent callers at the end of a cooldown, one makes the trial call.
func TestBreakerPermitsOneTrial(t *testing.T) {
	var now atomic.Int64
	b := &breakers{
		limits: breakerLimits{1, time.Second}, now: func() time.Time { return time.Unix(1000, now.Load()) },
	}
	key := breakerKey{hook: OnEvent, group: "g"}
	if !b.allow(key) || !b.failed(key) || b.allow(key) {
		t.Fatal("the breaker does not open")
	}
	now.Add(int64(time.Second))
	var trials atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if b.allow(key) {
				trials.Add(1)
			}
		})
	}
	wg.Wait()
	if trials.Load() != 1 {
		t.Errorf("%d calls are permitted, want 1", trials.Load())
	}
	b.succeeded(key)
	if !b.allow(key) || len(b.appendOpen(nil)) > 0 {
		t.Error("a successful trial does not close the breaker")
	}
}

// TestBreakersAreBounded: at most maxBreakers keys are remembered, and old failures are forgotten.
func TestBreakersAreBounded(t *testing.T) {
	began, now := time.Now(), time.Duration(0)
	b := &breakers{limits: breakerLimits{1, time.Second}, now: func() time.Time { return began.Add(now) }}
	key := func(i int) breakerKey { return breakerKey{hook: OnEvent, group: fmt.Sprint(i)} }
	for i := range 2 * maxBreakers {
		now += time.Microsecond
		b.failed(key(i))
	}
	if len(b.entries) != maxBreakers || b.allow(key(2*maxBreakers-1)) || !b.allow(key(0)) {
		t.Errorf("%d keys are remembered, want the last %d", len(b.entries), maxBreakers)
	}
	now += 2*breakerMemory + time.Second
	if b.allow(key(-1)); b.count.Load() != 0 || len(b.entries) != 0 {
		t.Errorf("%d keys are remembered forever", len(b.entries))
	}
}

// TestBreakersCountRates: a breaker opens where most calls fail, even if some succeed, and not where most succeed.
func TestBreakersCountRates(t *testing.T) {
	for _, c := range []struct {
		name    string
		failing int // calls of five
		opens   bool
	}{{"four of five", 4, true}, {"three of five", 3, true}, {"two of five", 2, false}} {
		b := &breakers{limits: breakerLimits{5, time.Hour}, now: time.Now}
		key := breakerKey{hook: OnEvent, group: "g"}
		opened := false
		for i := range 100 {
			if i%5 < c.failing {
				opened = b.failed(key) || opened
			} else if b.allow(key) {
				b.succeeded(key)
			}
		}
		if opened != c.opens {
			t.Errorf("%s calls fail: opened is %t, want %t", c.name, opened, c.opens)
		}
	}
}

func TestMetricNames(t *testing.T) {
	var c counters
	for name, want := range map[string]int32{
		"a": 0, "_a_1": 0, "": -1, "1a": -1, "A": -1, "a-b": -1, strings.Repeat("a", 65): -1,
	} {
		if got := c.add([]byte(name), 1); got != want {
			t.Errorf("%q gives %d, want %d", name, got, want)
		}
	}
	if c.add([]byte("a"), -1) != -1 || c.snapshot()["a"] != 1 {
		t.Error("a counter counts down")
	}
}

// TestConcurrentUse uses all methods at once, for the race detector.
func TestConcurrentUse(t *testing.T) {
	spec := actor(t)
	spec.Instances = 2
	p := pipeline(t, Options{}, spec)
	var wg sync.WaitGroup
	for c := range 3 {
		wg.Go(func() {
			for i := range 200 {
				group := fmt.Sprintf("g%d", (c*i)%7)
				p.Process(Event{Group: group, Payload: do([]string{"pass", "drop", "trap", "split", "kv_incr", "metric", "log"}[i%7])}, nil)
				_, _, _ = p.renderNow(uint8(i%64), Event{Group: group, Payload: []byte("{}")})
				_, _ = p.Subscribe(t.Context(), []byte(`{"do":"class"}`), group)
			}
		})
	}
	wg.Go(func() {
		for i := range 10 {
			s := spec
			s.OnError = []OnError{OnErrorPass, OnErrorLastGood}[i%2]
			s.Groups = []string{fmt.Sprintf("g%d*", i%3), "g*"}
			s.Fuel = DefaultFuel + int64(i%3)
			if err := p.Apply(t.Context(), []Spec{s}); err != nil {
				t.Error(err)
			}
			p.Health()
			_, _ = p.Logs("actor")
			_ = p.Deploy(t.Context(), "actor", fixture(t, []string{"actor", "pass"}[i%2]))
		}
	})
	wg.Wait()
}
