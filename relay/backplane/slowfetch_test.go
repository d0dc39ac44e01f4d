package backplane

import (
	"testing"
	"testing/synctest"
	"time"
)

// A page takes a while to leave. The events that were held behind it do not expire before their turn.
func TestHeldEventsDoNotExpireBehindAPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFetching(t)
		f.attach()
		f.detach()
		f.emit("a")
		time.Sleep(70 * time.Second)
		f.emit("a") // kept
		r := f.attach()["a"]
		if r == nil {
			t.Fatal("no refill")
		}
		time.Sleep(55 * time.Second)
		f.mu.Lock()
		f.endRefill(r, []*event{textEvent("a", 1)})
		f.mu.Unlock()
		f.nextNumbered(f.link, nil, 1, time.Now())
		f.acknowledge(f.last+1, 0)
		f.last++
		time.Sleep(15 * time.Second)
		if got := f.take(); len(got) != 1 {
			t.Errorf("%q leave behind the page", got)
		}
		if c, _ := f.takeCounted(); c.sum() != 0 {
			t.Errorf("%+v count as lost", c)
		}
	})
}

// Events are lost while a backlog of other groups is paced: the peer is told within about a second.
func TestLossIsReportedDuringABacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFetching(t)
		f.limit = 16 << 20
		f.attach()
		f.detach()
		f.emit("a")
		time.Sleep(70 * time.Second)
		f.sweep()
		for range 300 {
			e := textEvent("b", 1)
			e.text = make([]byte, 10_000)
			f.push(e)
			time.Sleep(100 * time.Millisecond)
		}
		r := f.attach()["a"]
		began := time.Now()
		for time.Since(began) < 5*time.Second {
			number, events, _ := f.nextNumbered(f.link, nil, batchBytes, time.Now())
			f.acknowledge(number+uint64(len(events))-1, 0)
			time.Sleep(20 * time.Millisecond)
		}
		f.mu.Lock()
		f.giveUp([]*refill{r})
		f.mu.Unlock()
		began = time.Now()
		for time.Since(began) < 30*time.Second {
			number, events, loss := f.nextNumbered(f.link, nil, batchBytes, time.Now())
			f.acknowledge(number+uint64(len(events))-1, 0)
			if loss.number > 0 {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("told after %v", took)
		}
	})
}

// The history lacks a dropped event. A live one that it has in addition does not stand for that.
func TestLiveEventsDoNotStandForDroppedOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFetching(t)
		f.attach()
		f.detach()
		var page []*event
		for range 3 {
			at := f.emit("a")
			page = append(page, &event{group: "a", position: at, refill: true})
		}
		time.Sleep(70 * time.Second)
		f.sweep()
		r := f.attach()["a"]
		live := f.emit("a")
		page = append(page[:2], &event{group: "a", position: live, refill: true})
		if !r.isComplete(page) {
			t.Fatal("the page is too short")
		}
		s := &stream{queue: f.queue}
		if s.endRefill(r, page) {
			t.Error("the page counts as complete")
		}
		if c, _ := f.takeCounted(); c.expired != 3 {
			t.Errorf("%+v count as lost", c)
		}
	})
}

// A link with lost events ends before the peer is told: the next one misses a number, too.
func TestUntoldLossMissesANumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFetching(t)
		f.attach()
		f.detach()
		e := textEvent("a", 1) // has no position: lost
		f.push(e)
		time.Sleep(70 * time.Second)
		f.sweep()
		for range 3 {
			var first uint64
			link := newQueue(1000)
			f.queue.attach(link, f.last, 0, func(number, _ uint64, _ []*refill) { first = number })
			if first <= f.last+1 {
				t.Errorf("no number is missing: %d follows %d", first, f.last)
			}
			f.last = first - 1 // the peer has passed it
			f.detach()
		}
	})
}

// A link is slower than the events that are queued for it, and never ends: they count as they are dropped.
func TestSlowLinkCountsLosses(t *testing.T) {
	for _, speed := range []int{10, 50, 100, 150, 200, 300, 500, 1000, 3000} { // KB/s
		for _, over := range []int{150, 200, 500} {
			synctest.Test(t, func(t *testing.T) {
				f := newFetching(t)
				f.limit = 1 << 20
				f.attach()
				done := make(chan struct{})
				go func() {
					defer close(done)
					every := time.Second * 1000 / time.Duration(speed*over*10)
					for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); time.Sleep(every) {
						f.pushed++
						e := textEvent("a", 1)
						e.text = make([]byte, 1000)
						e.position.Micros, e.position.Mark = f.pushed, 1
						f.push(e)
					}
				}()
				var counted int
				var longest time.Duration
				var dropping time.Time
			serve:
				for {
					select {
					case <-done:
						break serve
					case <-f.link.signal:
					}
					number, events, _ := f.nextNumbered(f.link, nil, batchBytes, time.Now())
					size := 0
					for _, e := range events {
						size += e.cost()
					}
					time.Sleep(time.Duration(size) * time.Second / time.Duration(speed*1000))
					if len(events) > 0 {
						f.acknowledge(number+uint64(len(events))-1, 1<<40)
					}
					c, _ := f.takeCounted()
					counted += c.sum()
					f.mu.Lock()
					n := f.missed["a"].count()
					f.mu.Unlock()
					switch {
					case n == 0 || c.sum() > 0:
						dropping = time.Time{}
					case dropping.IsZero():
						dropping = time.Now()
					default:
						longest = max(longest, time.Since(dropping))
					}
				}
				if longest > 15*time.Second || counted == 0 {
					t.Errorf("speed %d, %d%%: dropped for %v without a count, counted %d", speed, over, longest, counted)
				}
			})
		}
	}
}
