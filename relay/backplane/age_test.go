package backplane

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// agingQueue returns a queue with an age, and a function that returns the number of expired events and of series since
// the last call.
func agingQueue(age time.Duration) (q *queue, expired func() (events, series int)) {
	var n, firsts int
	q = newQueue(1 << 30)
	q.age = ageLimit{limit: age, expired: func(count int, first bool) {
		n += count
		if first {
			firsts++
		}
	}}
	return q, func() (int, int) {
		defer func() { n, firsts = 0, 0 }()
		return n, firsts
	}
}

func textEvent(group string, n int) *event {
	return &event{group: group, text: fmt.Append(nil, n), since: time.Now()}
}

// Events that have waited for too long are dropped: at the next push, when a link takes them, and without either.
func TestOldEventsExpire(t *testing.T) {
	uses := map[string]func(q *queue){
		"push":  func(q *queue) { q.push(textEvent("b", 100)) },
		"next":  func(q *queue) { q.next(nil, 1<<20) },
		"sweep": (*queue).sweep,
	}
	for name, use := range uses {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, expired := agingQueue(time.Minute)
				for n := range 10 {
					q.push(textEvent("a", n))
					time.Sleep(time.Second)
				}
				time.Sleep(time.Minute + redialTime - 8*time.Second) // the first two are too old now
				use(q)
				if n, series := expired(); n != 2 || series != 1 {
					t.Errorf("%d events expired in %d series, want 2 in 1", n, series)
				}
				if name != "next" && (q.dropped != 2 || q.bytes != q.count*textEvent("a", 1).cost()+2*(q.count-8)) {
					t.Errorf("%d dropped, %d events of %d bytes", q.dropped, q.count, q.bytes)
				}
			})
		})
	}
}

// Events that a peer has, but has not acknowledged, expire without a loss. A new link gets time for what has waited,
// once.
func TestExpiryAndLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, expired := agingQueue(time.Minute)
		q.base = 1
		attach := func(last uint64) (lost uint64, link *queue) {
			link = newQueue(1000)
			lost, _ = q.attach(link, last, 0, func(_, _ uint64, _ []*refill) {})
			return lost, link
		}
		_, link := attach(0)
		for n := range 10 {
			q.push(textEvent("a", n))
		}
		if _, events, _ := q.nextNumbered(link, nil, 1<<20, time.Now()); len(events) != 10 {
			t.Fatalf("%d events", len(events))
		}
		q.detach()
		time.Sleep(2 * time.Minute)
		q.push(textEvent("a", 10))
		if n, _ := expired(); n != 0 || q.count != 1 {
			t.Errorf("%d events expired, %d are left", n, q.count)
		}
		time.Sleep(time.Minute)
		lost, _ := attach(7) // the peer has all but three
		if lost != 3 {
			t.Errorf("%d events are lost, want 3", lost)
		}
		time.Sleep(20 * time.Second) // the event is too old, but the link is new
		q.sweep()
		if n, _ := expired(); n != 0 {
			t.Errorf("%d events expired", n)
		}
		q.detach()
		_, link = attach(7)
		time.Sleep(15 * time.Second)
		_, events, loss := q.nextNumbered(link, nil, 1<<20, time.Now())
		if n, _ := expired(); n != 1 || len(events) != 0 || loss.count != 4 {
			t.Errorf("%d events expired, %d came, %d are reported", n, len(events), loss.count)
		}
	})
}

// A link that takes the place of one that still stands, such as a slow one, has no more time for old events.
func TestReplacedLinkHasNoMoreTime(t *testing.T) {
	for _, c := range []struct {
		name   string
		outage time.Duration
		stays  bool
	}{{"beside the former link", 0, false}, {"after a short break", time.Second, false}, {"after an outage", 20 * time.Second, true}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, _ := agingQueue(time.Minute)
				q.base, q.refetches = 1, true
				attach := func() { q.attach(newQueue(1000), 0, 0, func(_, _ uint64, _ []*refill) {}) }
				attach()
				q.push(textEvent("a", 0))
				time.Sleep(time.Minute - c.outage)
				if c.outage > 0 {
					q.detach()
					time.Sleep(c.outage)
				}
				attach()
				time.Sleep(10 * time.Second)
				q.sweep()
				if stays := q.count == 1; stays != c.stays {
					t.Errorf("the event stays: %v, want %v", stays, c.stays)
				}
			})
		})
	}
}

// A report follows once a second, although the queue is never empty. Its series of drops is one.
func TestLossesAreReportedUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := textEvent("g", 1000)
		q := newQueue(10 * one.cost())
		q.base = 1
		link := newQueue(1000)
		q.attach(link, 0, 0, func(_, _ uint64, _ []*refill) {})
		reports, series, dropped, told := 0, 0, 0, uint64(0)
		for n := range 1000 {
			d, first := q.push(textEvent("g", 1000+n%9000))
			dropped += d
			if first {
				series++
			}
			if n%4 == 3 {
				number, _, loss := q.nextNumbered(link, nil, 1, time.Now())
				q.acknowledge(number, 0)
				if loss.number > 0 {
					reports++
					told += loss.count
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
		if reports < 8 || reports > 11 || series != 1 || told == 0 || told > uint64(dropped) {
			t.Errorf("%d reports of %d events in 10 s, %d dropped in %d series", reports, told, dropped, series)
		}
	})
}

// A series of drops ends when the queue is empty, also if a report has told of all of them before. The next drop begins
// another one.
func TestSeriesEndsAfterItsLastReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(10 * textEvent("g", 1000).cost())
		q.base = 1
		link := newQueue(1000)
		q.attach(link, 0, 0, func(_, _ uint64, _ []*refill) {})
		for range 2 {
			firsts := 0
			for n := range 25 {
				if _, first := q.push(textEvent("g", 1000+n)); first {
					firsts++
				}
			}
			time.Sleep(reportEvery)
			_, _, told := q.nextNumbered(link, nil, 1, time.Now())
			number, events, end := q.nextNumbered(link, nil, 1<<20, time.Now())
			if firsts != 1 || told.count != 15 || told.recovered != 0 || len(events) != 9 {
				t.Errorf("%d series, %d events reported, %d left, recovered %d", firsts, told.count, len(events), told.recovered)
			}
			if end.number != 0 || end.recovered != 15 {
				t.Errorf("at the end: report %d, recovered %d, want none and 15", end.number, end.recovered)
			}
			q.acknowledge(number+uint64(len(events))-1, told.number)
		}
	})
}

// The cost of an event in a queue, with and without a bound on its age.
func BenchmarkPush(b *testing.B) {
	for name, age := range map[string]time.Duration{"without age": 0, "with age": time.Minute} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			q, _ := agingQueue(age)
			e := textEvent("g", 1)
			var events []*event
			for b.Loop() {
				for range 64 {
					q.push(e)
				}
				_, events, _, _ = q.next(events[:0], 1<<20)
			}
		})
	}
}
