package backplane

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// fetching is a queue whose peer takes dropped events later, and the peer's last number.
type fetching struct {
	*queue
	t       *testing.T
	link    *queue
	last    uint64
	pushed  int64
	answers []message
}

func newFetching(t *testing.T) *fetching {
	f := &fetching{queue: newQueue(1000), t: t}
	f.base, f.signal, f.refetches, f.age.limit = 1, nil, true, time.Minute
	return f
}

// emit queues an event with a position, which is returned.
func (f *fetching) emit(group string) relay.Position {
	f.pushed++
	e := textEvent(group, int(f.pushed))
	e.position = relay.Position{Micros: f.pushed, Mark: 1}
	f.push(e)
	return e.position
}

// attach gives the queue to a new link, and returns the refills by group.
func (f *fetching) attach() map[string]*refill {
	f.link = newQueue(1000)
	_, list := f.queue.attach(f.link, f.last, 0, func(uint64, uint64, []*refill) {
		f.answer = func(m message) { f.answers = append(f.answers, m) }
	})
	byGroup := map[string]*refill{}
	for _, r := range list {
		byGroup[r.group] = r
	}
	return byGroup
}

// take lets the peer get everything, and returns the groups.
func (f *fetching) take() (groups []string) {
	number, events, loss := f.nextNumbered(f.link, nil, 1<<20, time.Now())
	if len(events) > 0 && number != f.last+1 && loss.count == 0 {
		f.t.Errorf("event %d follows %d", number, f.last)
	}
	for _, e := range events {
		groups = append(groups, e.group)
	}
	f.last = number + uint64(len(events)) - 1
	f.acknowledge(f.last, 1<<32)
	return groups
}

// Events expire while the peer is away. Their group waits for the history from the first of them on; others go on.
func TestExpiredEventsWaitForTheHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFetching(t)
		f.attach()
		f.emit("a")
		f.take()
		f.detach()
		from := f.emit("a")
		f.emit("a")
		time.Sleep(50 * time.Second)
		f.emit("a")
		f.emit("b")
		time.Sleep(50 * time.Second)
		f.sweep()
		refills := f.attach()
		if r := refills["a"]; len(refills) != 1 || r == nil || r.after != from || r.awaited != 3 || r.hole.expired != 2 {
			t.Fatalf("refills: %+v", refills)
		}
		if got := f.take(); !slices.Equal(got, []string{"b"}) {
			t.Errorf("%q leave before the refill", got)
		}
		f.emit("a") // waits, too
		if got := f.take(); len(got) > 0 {
			t.Errorf("%q leave before the refill", got)
		}
		f.mu.Lock()
		f.endRefill(refills["a"], []*event{textEvent("a", 1), textEvent("a", 2)})
		f.mu.Unlock()
		if got := f.take(); len(got) != 4 {
			t.Errorf("%q leave behind the refill", got)
		}
		if c, _ := f.takeCounted(); c.sum() != 0 {
			t.Errorf("%+v count as lost", c)
		}
	})
}

// The history does not have the events: they count once, and the peer is told before the ones that follow. Until it has
// one of these, nothing is read again, and each link tells of the group.
func TestLostEventsAreNotFetchedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFetching(t)
		f.attach()
		f.detach()
		lose := func() {
			f.emit("a")
			time.Sleep(70 * time.Second)
			f.sweep()
		}
		lose()
		r := f.attach()["a"]
		f.mu.Lock()
		f.giveUp([]*refill{r})
		f.mu.Unlock()
		if c, _ := f.takeCounted(); c.expired != 1 || c.sum() != 1 {
			t.Errorf("%+v count as lost", c)
		}
		if len(f.answers) != 1 || !slices.Equal(f.answers[0].Missing, []string{"a"}) {
			t.Errorf("answers: %+v", f.answers)
		}
		f.take()
		f.detach()
		lose()
		if refills := f.attach(); len(refills) != 0 {
			t.Errorf("refills that would bring lost events: %+v", refills)
		}
		if len(f.answers) != 2 {
			t.Errorf("the next link does not tell of the group: %+v", f.answers)
		}
		f.emit("a")
		f.take()
		f.detach()
		lose()
		if refills := f.attach(); len(refills) != 1 {
			t.Errorf("%d refills once the peer has a later event", len(refills))
		}
		if len(f.answers) != 2 {
			t.Errorf("answers: %+v", f.answers)
		}
	})
}

// A link breaks during a refill: the next one begins again, and the held events keep their place.
func TestBrokenRefillBeginsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFetching(t)
		f.attach()
		f.detach()
		from := f.emit("a")
		time.Sleep(70 * time.Second)
		f.sweep()
		first := f.attach()["a"]
		f.emit("a")
		f.detach()
		f.emit("a")
		second := f.attach()["a"]
		if second == nil || second.after != from || second.awaited != 3 || len(second.held) != 2 || first == second {
			t.Errorf("the second refill is %+v", second)
		}
		if events, _, _ := f.load(); events != 0 {
			t.Errorf("%d events are queued", events)
		}
	})
}
