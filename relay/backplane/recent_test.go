package backplane

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// emitted is an event of a layer for the tests of recent.
type emitted struct {
	group string
	at    time.Time
}

// receive lets events arrive, as refills or not, and returns those that did so before.
func (r *recent) receive(refilled bool, list ...emitted) (doubles []string) {
	for _, e := range list {
		ev := relay.Event{Group: e.group, Position: relay.Position{Micros: e.at.UnixMicro(), Mark: 1}}
		var refills []int
		if refilled {
			refills = []int{0}
		}
		if _, dropped := r.admit([]relay.Event{ev}, refills); dropped > 0 {
			doubles = append(doubles, fmt.Sprint(e.group, " ", e.at.Second()))
		}
	}
	return doubles
}

// search begins a search for doubles as the next source is asked, and ends it if the source answers.
func (r *recent) search(answered bool, refills ...emitted) (doubles []string) {
	r.expectDoubles([]string{"a", "b"})
	doubles = r.receive(true, refills...)
	if answered {
		r.settle(time.Now().Add(recentAge))
	}
	return doubles
}

// The last event of a group comes long after the one before, since a link has stalled, and with events of other groups
// that are much younger. When the source restarts then, its history replays both events of the group: they are doubles.
func TestDoublesBehindALateEvent(t *testing.T) {
	begin := func() (r *recent, first, late, other emitted) {
		now := time.Now()
		r = &recent{groups: map[string]*recentGroup{}}
		first, late, other = emitted{"a", now}, emitted{"a", now.Add(time.Second)}, emitted{"b", now.Add(38 * time.Second)}
		r.receive(false, first)
		time.Sleep(40 * time.Second)
		return r, first, late, other
	}
	check := func(t *testing.T, r *recent, first, late, other emitted) {
		t.Helper()
		if doubles := r.search(true, first, late, other); len(doubles) != 3 {
			t.Errorf("only %q are known", doubles)
		}
	}
	each := map[string]func(t *testing.T){
		"in the stream": func(t *testing.T) {
			r, first, late, other := begin()
			r.receive(false, late, other, emitted{"b", time.Now()})
			check(t, r, first, late, other)
		},
		"as refills": func(t *testing.T) {
			r, first, late, other := begin()
			r.search(true, other, emitted{"b", time.Now()}, first, late) // groups come in any order
			check(t, r, first, late, other)
		},
		"as refills that end early": func(t *testing.T) {
			r, first, late, other := begin()
			r.search(false, other, emitted{"b", time.Now()})
			r.search(false, other, late)
			check(t, r, first, late, other)
		},
	}
	for name, do := range each {
		t.Run(name, func(t *testing.T) { synctest.Test(t, do) })
	}
}

// Searches for doubles that follow each other know no more events than the last one needs.
func TestSearchesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recent{groups: map[string]*recentGroup{}}
		for range 100 {
			r.search(false)
			for range 100 {
				r.receive(false, emitted{"a", time.Now()})
				time.Sleep(50 * time.Millisecond)
			}
		}
		r.search(false)
		if n := len(r.doubles.seen); n > 500 {
			t.Errorf("%d events are known", n)
		}
	})
}
