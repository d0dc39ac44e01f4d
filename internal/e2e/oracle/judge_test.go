package oracle

import (
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// The oracle finds each kind of fault, and nothing where the client was told.
func TestJudge(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		play func(r *record)
		want string // part of the only fault; empty: none
	}{
		"all":          {func(r *record) { take(r, now, 0, 1, 2, 3) }, ""},
		"from the mid": {func(r *record) { take(r, now, 2, 3) }, ""},
		"double":       {func(r *record) { take(r, now, 0, 1, 1, 2, 3) }, "came twice"},
		"disorder":     {func(r *record) { take(r, now, 0, 2, 1, 3) }, "came after"},
		"hole":         {func(r *record) { take(r, now, 0, 1, 3) }, "1 events of a are missing"},
		"end":          {func(r *record) { take(r, now, 0, 1) }, "2 events of a are missing"},
		"told first": {func(r *record) {
			take(r, now, 0, 1)
			r.broken(now, "")
			take(r, now, 3)
		}, ""},
		"told later": {func(r *record) {
			take(r, now, 0, 1, 3)
			r.broken(now.Add(time.Second), "")
		}, ""},
		"told much later": {func(r *record) {
			take(r, now, 0, 1, 3)
			r.broken(now.Add(time.Minute), "")
		}, "1 events of a are missing"},
		"told of an event that the position has": {func(r *record) {
			take(r, now, 0)
			r.broken(now, relay.Position{Micros: 3}.String())
			take(r, now, 1, 3)
		}, ""},
		"told of another hole": {func(r *record) {
			take(r, now, 0)
			r.broken(now, "")
			take(r, now, 1, 3)
		}, "1 events of a are missing"},
		"told at the end": {func(r *record) {
			take(r, now, 0, 1)
			r.notRecovered(now, "")
		}, ""},
		"an unsure event": {func(r *record) {
			r.o.Published("a", 1, 4, false)
			take(r, now, 0, 1, 2, 3)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRecord(New(), "client", 1)
			for n := range 4 {
				r.o.Published("a", 1, n, true)
			}
			c.play(r)
			r.judge()
			got := strings.Join(r.o.faults, "; ")
			if (got == "") != (c.want == "") || !strings.Contains(got, c.want) || len(r.o.faults) > 1 && name != "disorder" {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// A false alarm is an answer recovered: false although the client gets everything.
func TestFalseAlarms(t *testing.T) {
	for _, c := range []struct {
		after []int
		want  int
	}{{[]int{2, 3}, 1}, {[]int{3}, 0}} {
		r := newRecord(New(), "client", 1)
		for n := range 4 {
			r.o.Published("a", 1, n, true)
		}
		take(r, time.Now(), 0, 1)
		r.notRecovered(time.Now(), "")
		take(r, time.Now(), c.after...)
		r.judge()
		if got := r.o.total.FalseAlarms; got != c.want || len(r.o.faults) > 0 {
			t.Errorf("after %v: %d false alarms, want %d; %v", c.after, got, c.want, r.o.faults)
		}
	}
}

func take(r *record, now time.Time, numbers ...int) {
	for _, n := range numbers {
		r.event("a", n, relay.Position{Micros: int64(n + 1)}.String(), now)
	}
}

// A fault names its time, the client, the group, the events and what else happened at that time.
func TestFaultsNameTheirCause(t *testing.T) {
	at := time.Date(2026, 11, 30, 9, 0, 1, 0, time.UTC)
	o := New()
	o.Near = func(near time.Time) string { return "Redis restarted at " + near.Format(time.TimeOnly) }
	for n := range 4 {
		o.Published("a", 1, n, true)
	}
	r := newRecord(o, "client 7", 1)
	take(r, at, 0, 3)
	r.judge()
	want := "09:00:01.000 client 7: group 1: 2 events of a are missing without a word, from 1 to 2\n" +
		"\tRedis restarted at 09:00:01"
	if got := strings.Join(o.Faults(), "; "); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
