package backplane

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// A source sends live events, and never ends its refills: what is known about arrived events is bounded. A refilled
// event that may have arrived is not delivered, and its group is reported.
func TestUnansweredRefillsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recent{groups: map[string]*recentGroup{}}
		begun := time.Now()
		r.receive(false, emitted{"a", begun})
		r.expectDoubles([]string{"a"})
		for n := range 2 * maxDoubles {
			r.receive(false, emitted{"b", begun.Add(time.Duration(n) * time.Millisecond)})
			time.Sleep(time.Millisecond)
		}
		if n := len(r.doubles.seen); n > maxDoubles {
			t.Errorf("%d events are known", n)
		}
		if doubles := r.receive(true, emitted{"a", begun.Add(time.Minute)}); len(doubles) != 1 {
			t.Error("an event that may have arrived is delivered")
		}
		if missed := r.missed(); !slices.Equal(missed, []string{"a"}) {
			t.Errorf("incomplete are %q", missed)
		}
	})
}

// A source sends ever more events from before the first one of this run.
func TestEarlierEventsAreBounded(t *testing.T) {
	var e earlier
	e.had = map[identity]bool{}
	for n := range 2 * maxRecent {
		id := identity{"a", relay.Position{Micros: int64(n)}}
		if n >= maxRecent {
			id.group = "b"
		}
		e.had[id] = true
		e.add(id)
	}
	if n := len(e.replayed); n > maxRecent {
		t.Errorf("%d events are kept", n)
	}
	if groups := e.unknown(); !slices.Equal(groups, []string{"b"}) {
		t.Errorf("incomplete are %q", groups)
	}
}
