package ring_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
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
	if got := texts(p); !slices.Equal(got, []string{"a", "b", "c"}) || p.Head != at[2] || p.Events[1].Position != at[1] {
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

// Events of peers keep their positions. What arrives twice is kept once.
func TestEventsOfPeers(t *testing.T) {
	r, c := newRing(relay.DefaultHistoryLimits)
	r.Joined([]string{"job_1"})
	peer := func(at time.Time, text string) relay.Position {
		p := relay.Position{Micros: at.UnixMicro(), Mark: 7}
		r.Record([]relay.Event{{Group: "job_1", Text: []byte(text), Position: p, Source: relay.FromPeer}})
		return p
	}
	first := peer(c.Time, "a")
	peer(c.Time, "a")
	ahead := peer(c.Add(time.Minute), "b") // a clock that is a minute ahead
	own := record(r, "job_1", "c")[0]
	if own.Compare(ahead) <= 0 {
		t.Errorf("this node's event at %v is before the peer's at %v, which came first", own, ahead)
	}
	late := peer(c.Add(time.Minute-time.Second), "late")
	for _, after := range []relay.Position{first, late, ahead, own} {
		p := read(r, relay.HistoryQuery{Group: "job_1", After: []relay.Position{after}})
		got := texts(p)
		if p.Resumable[0] != nil || !slices.Equal(got[len(got)-3:], []string{"late", "b", "c"}) {
			t.Errorf("behind %v: %q, %v; want all of the last two seconds", after, got, p.Resumable[0])
		}
	}
	all := read(r, relay.HistoryQuery{Group: "job_1", Latest: 10})
	for i, foreign := range []bool{true, true, true, false} {
		if ev := all.Events[i]; ev.Foreign != foreign {
			t.Errorf("%s: foreign %v", ev.Text, ev.Foreign)
		}
	}
	if info, _ := r.InspectHistory(t.Context(), "job_1"); info.Events != 4 || info.Gaps != 0 {
		t.Errorf("%d events and %d gaps, want 4 and none", info.Events, info.Gaps)
	}
}

// A client may have a newer position than a very late event, and would not get the event.
func TestVeryLateEventIsAGap(t *testing.T) {
	r, c := newRing(relay.DefaultHistoryLimits)
	r.Joined([]string{"job_1"})
	before := record(r, "job_1", "a")[0]
	for name, p := range map[string]relay.Position{
		"late":           {Micros: c.Add(-3 * time.Second).UnixMicro(), Mark: 7},
		"a broken clock": {Micros: math.MaxInt64, Mark: 7},
	} {
		r.Record([]relay.Event{{Group: "job_1", Text: []byte(name), Position: p}})
		q := relay.HistoryQuery{Group: "job_1", After: []relay.Position{before}}
		if p := read(r, q); p.Resumable[0] != relay.NotRecoveredGap {
			t.Errorf("%s: %v", name, p.Resumable[0])
		}
		c.Time = c.Add(3 * time.Second)
		before = record(r, "job_1", "b")[0]
		if p := read(r, relay.HistoryQuery{Group: "job_1", After: []relay.Position{before}}); p.Resumable[0] != nil {
			t.Errorf("an event later: %v", p.Resumable[0])
		}
	}
}

// A quiet group with an event soon after a gap does not answer every client with a gap for ever.
func TestHeadSoonAfterAGap(t *testing.T) {
	r, _ := newRing(relay.DefaultHistoryLimits)
	r.Joined([]string{"job_1"})
	r.MarkGap(relay.Loss{Groups: []string{"job_1"}})
	last := record(r, "job_1", "a")[0]
	p := read(r, relay.HistoryQuery{Group: "job_1", After: []relay.Position{last}})
	if p.Resumable[0] != relay.NotRecoveredGap {
		t.Errorf("an event that may have been one before the gap: %v", p.Resumable[0])
	}
	if p := read(r, relay.HistoryQuery{Group: "job_1", After: []relay.Position{p.Head}}); p.Resumable[0] != nil {
		t.Errorf("the head: %v", p.Resumable[0])
	}
}

// The histories together have a bound. The group that was not used for the longest time goes first.
func TestMemoryIsBounded(t *testing.T) {
	c := &clock{time.Unix(1_764_378_000, 0)}
	const limit = 100_000
	r := ring.NewLimited(policy(relay.DefaultHistoryLimits), c.now, limit)
	text := strings.Repeat("x", 900)
	first := record(r, "job_0", "a", text)[0]
	for i := range 500 {
		c.Time = c.Add(time.Millisecond)
		read(r, relay.HistoryQuery{Group: "job_0"}) // used
		record(r, fmt.Sprintf("job_%d", i+1), text)
		if n := r.HistoryStats().Bytes; n > limit {
			t.Fatalf("%d bytes after %d groups", n, i)
		}
	}
	s := r.HistoryStats()
	if s.Evicted == 0 || s.Groups < limit/1000/2 || s.Evicted+uint64(s.Groups) != 501 {
		t.Errorf("%d groups, %d evicted", s.Groups, s.Evicted)
	}
	p := read(r, relay.HistoryQuery{Group: "job_0", After: []relay.Position{first}})
	if p.Resumable[0] != nil {
		t.Errorf("a group that is read all the time: %v", p.Resumable[0])
	}
	for i := range 500 {
		r.Record([]relay.Event{{Group: "job_0", Text: []byte(text), Position: relay.Position{Micros: int64(i), Mark: 1}}})
	}
	r.SetPolicy(relay.HistoryPolicy{})
	if s := r.HistoryStats(); s.Bytes != 0 || s.Groups != 0 {
		t.Errorf("%d bytes of %d groups without a policy", s.Bytes, s.Groups)
	}
}

// Groups that nothing uses any more are forgotten, those that the node is a member of are not.
func TestUnusedGroupsAreForgotten(t *testing.T) {
	r, c := newRing(relay.DefaultHistoryLimits)
	r.Joined([]string{"job_member", "job_left"})
	for _, g := range []string{"job_member", "job_left", "job_never"} {
		record(r, g, "a")
	}
	r.Left([]string{"job_left"})
	c.Time = c.Add(relay.DefaultHistoryLimits.Age + time.Second)
	if s := r.HistoryStats(); s.Groups != 1 || s.Bytes != 0 {
		t.Errorf("%d groups, %d bytes; want the member's group without events", s.Groups, s.Bytes)
	}
}

func BenchmarkRecord(b *testing.B) {
	for _, with := range []struct {
		name   string
		groups int
	}{{"one group", 1}, {"1000 groups", 1000}} {
		b.Run(with.name, func(b *testing.B) {
			r := ring.New(policy(relay.DefaultHistoryLimits), time.Now)
			names := make([]string, with.groups)
			for i := range names {
				names[i] = fmt.Sprintf("job_events-%d", i)
			}
			text := []byte(strings.Repeat("x", 300))
			events := make([]relay.Event, 64)
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				for i := range events {
					events[i] = relay.Event{Group: names[(n*len(events)+i)%len(names)], Text: text}
				}
				r.Record(events)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(events)), "ns/event")
		})
	}
}

func BenchmarkRead(b *testing.B) {
	limits := relay.HistoryLimits{Count: 10_000, Bytes: 1 << 30, Age: time.Hour}
	r := ring.New(policy(limits), time.Now)
	var at []relay.Position
	for range 10_000 {
		at = append(at, record(r, "job_1", "text")...)
	}
	b.ReportAllocs()
	for b.Loop() {
		read(r, relay.HistoryQuery{Group: "job_1", After: at})
	}
}
