package ring_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/history/ring"
)

type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

func newRing(limits relay.HistoryLimits) (*ring.Ring, *clock) {
	c := &clock{time.Unix(1_764_378_000, 0)}
	return ring.New(relay.HistoryPolicy{Rules: []relay.HistoryRule{{Pattern: "job_*", HistoryLimits: limits}}}, c.now), c
}

// record records events with the given texts, and returns their positions.
func record(r *ring.Ring, group string, texts ...string) (at []relay.Position) {
	for _, text := range texts {
		events := []relay.Event{{Group: group, Text: []byte(text)}}
		r.Record(events)
		at = append(at, events[0].Position)
	}
	return at
}

func read(r *ring.Ring, q relay.HistoryQuery) relay.HistoryPage {
	return r.Read(context.Background(), []relay.HistoryQuery{q})[0]
}

func texts(p relay.HistoryPage) (list []string) {
	for _, ev := range p.Events {
		list = append(list, string(ev.Text))
	}
	return list
}

func TestResume(t *testing.T) {
	r, _ := newRing(relay.DefaultHistoryLimits)
	r.Joined([]string{"job_1"})
	at := record(r, "job_1", "a", "b", "c")
	p := read(r, relay.HistoryQuery{Group: "job_1", After: []relay.Position{at[0], at[2], {Micros: 1}}})
	if want := []error{nil, nil, relay.NotRecoveredUnknown}; !slices.Equal(p.Resumable, want) {
		t.Errorf("resumable %v, want %v", p.Resumable, want)
	}
	if got := texts(p); !slices.Equal(got, []string{"b", "c"}) || p.Head != at[2] || p.Events[0].Position != at[1] {
		t.Errorf("got %q, head %v", got, p.Head)
	}
	if got := texts(read(r, relay.HistoryQuery{Group: "job_1", Latest: 2})); !slices.Equal(got, []string{"b", "c"}) {
		t.Errorf("the latest two are %q", got)
	}
	if p := read(r, relay.HistoryQuery{Group: "other"}); !errors.Is(p.Err, relay.NotRecoveredOff) {
		t.Errorf("a group without history: %v", p.Err)
	}
}

// A group without events has a position to resume from.
func TestHeadOfAnEmptyGroup(t *testing.T) {
	r, c := newRing(relay.DefaultHistoryLimits)
	r.Joined([]string{"job_1"})
	head := read(r, relay.HistoryQuery{Group: "job_1"}).Head
	c.Time = c.Add(time.Hour)
	if p := read(r, relay.HistoryQuery{Group: "job_1", After: []relay.Position{head}}); p.Resumable[0] != nil {
		t.Errorf("an hour later: %v", p.Resumable[0])
	}
	first := record(r, "job_1", "a")[0]
	after := relay.HistoryQuery{Group: "job_1", After: []relay.Position{head}}
	if p := read(r, after); p.Resumable[0] != nil || !slices.Equal(texts(p), []string{"a"}) {
		t.Errorf("an hour and an event later: %q, %v", texts(p), p.Resumable[0])
	}
	c.Time = c.Add(time.Hour)
	if p := read(r, after); p.Resumable[0] != relay.NotRecoveredUnknown {
		t.Errorf("the event behind the position is gone, but %v", p.Resumable[0])
	}
	if p := read(r, relay.HistoryQuery{Group: "job_1", After: []relay.Position{first}}); p.Resumable[0] != nil {
		t.Errorf("no event is missing, but %v", p.Resumable[0])
	}
}

func TestGaps(t *testing.T) {
	r, _ := newRing(relay.DefaultHistoryLimits)
	r.Joined([]string{"job_1", "job_2"})
	before := record(r, "job_1", "a")[0]
	gap := r.MarkGap(relay.Loss{Groups: []string{"job_1"}})
	record(r, "job_1", "b")
	p := read(r, relay.HistoryQuery{Group: "job_1", After: []relay.Position{before, gap}})
	if want := []error{relay.NotRecoveredGap, nil}; !slices.Equal(p.Resumable, want) {
		t.Errorf("resumable %v, want %v", p.Resumable, want)
	}
	if got := texts(p); !slices.Equal(got, []string{"b"}) {
		t.Errorf("got %q", got)
	}
	other := record(r, "job_2", "x")[0]
	r.MarkGap(relay.Loss{All: true})
	if p := read(r, relay.HistoryQuery{Group: "job_2", After: []relay.Position{other}}); p.Resumable[0] == nil {
		t.Error("resumed across a gap of all groups")
	}
	r.Left([]string{"job_2"})
	other = record(r, "job_2", "y")[0]
	r.Joined([]string{"job_2"})
	if p := read(r, relay.HistoryQuery{Group: "job_2", After: []relay.Position{other}}); p.Resumable[0] == nil {
		t.Error("resumed across a time without membership")
	}
}

func TestBounds(t *testing.T) {
	r, c := newRing(relay.HistoryLimits{Count: 3, Bytes: 10, Age: time.Minute})
	r.Joined([]string{"job_1"})
	for i := range 5 {
		record(r, "job_1", fmt.Sprint(i))
	}
	all := relay.HistoryQuery{Group: "job_1", Latest: 100}
	if got := texts(read(r, all)); !slices.Equal(got, []string{"2", "3", "4"}) {
		t.Errorf("by count: %q", got)
	}
	record(r, "job_1", "123456789")
	if got := texts(read(r, all)); !slices.Equal(got, []string{"4", "123456789"}) {
		t.Errorf("by bytes: %q", got)
	}
	last := record(r, "job_1", "12345678901")[0]
	p := read(r, relay.HistoryQuery{Group: "job_1", After: []relay.Position{last}, Latest: 100})
	if len(p.Events) != 0 || p.Resumable[0] != nil || p.Head != last {
		t.Errorf("an event above the bound: %+v", p)
	}
	record(r, "job_1", "old")
	c.Time = c.Add(2 * time.Minute)
	last = record(r, "job_1", "new")[0]
	if got := texts(read(r, all)); !slices.Equal(got, []string{"new"}) {
		t.Errorf("by age: %q", got)
	}
	c.Time = c.Add(2 * time.Minute)
	p = read(r, relay.HistoryQuery{Group: "job_1", After: []relay.Position{last}, Latest: 100})
	if len(p.Events) != 0 || p.Resumable[0] != nil {
		t.Errorf("a client that has the last event of a quiet group cannot resume: %+v", p)
	}
	if s := r.HistoryStats(); s.Bytes != 0 {
		t.Errorf("%d bytes of no events", s.Bytes)
	}
}
