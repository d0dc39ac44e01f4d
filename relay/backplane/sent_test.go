package backplane

import (
	"testing"
	"time"
)

// An event of a stream counts as sent once, however often it is sent, and however the batches are cut.
func TestEventsOfAStreamAreCountedOnce(t *testing.T) {
	q := newQueue(1 << 20)
	for _, c := range []struct{ number, events, fresh int }{
		{1, 10, 10}, {11, 0, 0}, {11, 5, 5}, {1, 10, 0}, {8, 20, 12}, {28, 1, 1}, {5, 3, 0}, {40, 2, 2},
	} {
		if got := q.countSent(uint64(c.number), c.events); got != c.fresh {
			t.Errorf("%d events from number %d on: %d count, want %d", c.events, c.number, got, c.fresh)
		}
	}
}

// Events that a Python node's link has written and that had not left are sent again over the next one, and count once.
func TestEventsThatWerePutBackAreCountedOnce(t *testing.T) {
	s := &backlog{}
	var events []*event
	for range 6 {
		events = append(events, &event{group: "g"})
	}
	s.again = map[*event]struct{}{events[0]: {}, events[1]: {}, events[2]: {}}
	for i, c := range []struct{ from, to, fresh int }{{0, 1, 0}, {2, 4, 1}, {4, 6, 2}} { // the second one was dropped
		if got := s.countSent(events[c.from:c.to]); got != c.fresh {
			t.Errorf("batch %d: %d events count, want %d", i, got, c.fresh)
		}
	}
	if len(s.again) != 0 {
		t.Errorf("%d events are remembered", len(s.again))
	}
}

// A node that is a dialer's counts as linked while it has dialed this one, also before the dialer knows of that link.
func TestANodeIsLinkedWhoeverDialed(t *testing.T) {
	b := newPlane(t)
	d := newDialer(b, Target{URL: "http://there"}, func() {})
	l := newVitalLink(t, b, "other", false, time.Now())
	b.links[l] = struct{}{}
	for _, c := range []struct {
		node string
		want bool
	}{{"", false}, {"third", false}, {"other", true}} {
		d.node = c.node
		d.setState(StateWaiting, nil)
		b.mu.Lock()
		got := d.linked()
		b.mu.Unlock()
		if got != c.want {
			t.Errorf("the dialer's node is %q, and there is a link from \"other\": linked is %v", c.node, got)
		}
	}
}
