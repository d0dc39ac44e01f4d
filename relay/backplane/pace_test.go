package backplane

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// pacedQueue is a queue with a link, and what a peer got from it.
type pacedQueue struct {
	*queue
	of      *queue
	sent    []*event
	arrived []time.Time
	acked   bool // the peer acknowledges at once
}

func newPacedQueue(limit int) *pacedQueue {
	p := &pacedQueue{queue: newQueue(limit), of: newQueue(limit), acked: true}
	p.base, p.signal = 1, nil
	return p
}

// connect gives the queue to a link.
func (p *pacedQueue) connect() { p.attach(p.of, 0, 0, func(uint64, uint64, []*refill) {}) }

// serve takes all events that may be sent, until a time.
func (p *pacedQueue) serve(until time.Time) {
	end := time.NewTimer(time.Until(until))
	defer end.Stop()
	for {
		select {
		case <-end.C:
			return
		case <-p.of.signal:
		}
		number, events, _ := p.nextNumbered(p.of, nil, batchBytes, time.Now())
		for range events {
			p.arrived = append(p.arrived, time.Now())
		}
		p.sent = append(p.sent, events...)
		if p.acked && len(events) > 0 {
			p.acknowledge(number+uint64(len(events))-1, 0)
		}
	}
}

// feed queues events of some size at a pace for some time.
func (p *pacedQueue) feed(size int, every, during time.Duration) (count int) {
	for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(every) {
		p.push(&event{group: "job-1", text: make([]byte, size), since: time.Now()})
		count++
	}
	return count
}

// most returns the most bytes that arrived within a window.
func (p *pacedQueue) most(window time.Duration) (most int) {
	for i := range p.sent {
		size := 0
		for k := i; k < len(p.sent) && p.arrived[k].Sub(p.arrived[i]) < window; k++ {
			size += p.sent[k].cost()
		}
		most = max(most, size)
	}
	return most
}

// A backlog of an outage is sent at three times the pace of live events, in order, and no event gets older than the
// oldest was. Then every event leaves at once.
func TestBacklogIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size, every, outage = 2000, 5 * time.Millisecond, 20 * time.Second // 400 KB/s
		p := newPacedQueue(16 << 20)
		count := p.feed(size, every, outage)
		connected := time.Now()
		p.connect()
		fed := make(chan int)
		go func() { fed <- p.feed(size, every, outage) }()
		p.serve(connected.Add(outage + time.Second))
		count += <-fed
		if len(p.sent) != count {
			t.Fatalf("%d of %d events", len(p.sent), count)
		}
		rate := (size + 101) * int(time.Second/every)
		if most := p.most(time.Second); most > (catchUpPace+1)*rate {
			t.Errorf("%d bytes in a second, which is %.1f times the live rate", most, float64(most)/float64(rate))
		}
		var caughtUp time.Duration
		for i, e := range p.sent {
			age := p.arrived[i].Sub(e.since)
			if i > 0 && e.since.Before(p.sent[i-1].since) {
				t.Fatalf("event %d overtook another", i)
			}
			if age > outage+paceTick {
				t.Errorf("event %d is %v old", i, age)
			}
			if age > caughtUpAge {
				caughtUp = p.arrived[i].Sub(connected)
			}
		}
		if want := outage / (catchUpPace - 1); caughtUp < want/2 || caughtUp > want+want/4 {
			t.Errorf("caught up after %v, want about %v", caughtUp, want)
		}
		for i := len(p.sent) - 100; i < len(p.sent); i++ {
			if age := p.arrived[i].Sub(p.sent[i].since); age != 0 {
				t.Errorf("a live event waited %v", age)
			}
		}
	})
}

// Neither a burst of live events, nor a small backlog, nor a backlog with long pauses takes longer for the pacing.
func TestSmallBacklogIsNotPaced(t *testing.T) {
	for name, test := range map[string]struct {
		outage, every time.Duration
		size, count   int
		most          time.Duration
	}{
		"burst of live events": {0, 0, 2000, 4000, 0},
		"small backlog":        {30 * time.Second, 250 * time.Millisecond, 2000, 120, 0},
		"pauses":               {50 * time.Second, 10 * time.Second, 200_000, 5, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPacedQueue(16 << 20)
				for range test.count {
					p.push(&event{group: "job-1", text: make([]byte, test.size), since: time.Now()})
					time.Sleep(test.every)
				}
				connected := time.Now()
				p.connect()
				p.serve(connected.Add(time.Minute))
				if len(p.sent) != test.count {
					t.Fatalf("%d of %d events", len(p.sent), test.count)
				}
				if took := p.arrived[test.count-1].Sub(connected); took > test.most {
					t.Errorf("took %v, want at most %v", took, test.most)
				}
			})
		})
	}
}

// A peer that reads a little faster than the live rate catches up as fast as it reads: the pacing does not slow it
// down, and leaves it no burst for later.
func TestSlowPeerIsNotPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacedQueue(16 << 20)
		count := p.feed(2000, 5*time.Millisecond, 10*time.Second)
		p.connect()
		read := 0
		for range 200 * 10 { // 10 s, at 1.5 times the rate
			select {
			case <-p.of.signal:
				number, events, _ := p.nextNumbered(p.of, nil, 3*2101, time.Now())
				read += len(events)
				if len(events) > 0 {
					p.acknowledge(number+uint64(len(events))-1, 0)
				}
			default:
			}
			time.Sleep(10 * time.Millisecond)
			if read == count {
				break
			}
		}
		if read != count {
			t.Fatalf("%d of %d events in 20 s", read, count)
		}
	})
}

// Events of the history were queued all at once: their bytes are paced.
func TestRefillIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacedQueue(16 << 20)
		p.connect()
		const count = 2000
		for range count {
			p.push(&event{group: "job-1", text: make([]byte, 2000), since: time.Now(), refill: true})
		}
		p.push(&event{group: "job-1", since: time.Now()})
		began := time.Now()
		p.serve(began.Add(time.Minute))
		if len(p.sent) != count+1 || p.sent[count].refill {
			t.Fatalf("%d of %d events", len(p.sent), count+1)
		}
		took := p.arrived[count].Sub(began)
		if want := time.Duration(count*2101-paceBurst) * time.Second / refillRate; took < want*9/10 || took > want*11/10 {
			t.Errorf("took %v, want about %v", took, want)
		}
		if most := p.most(100 * time.Millisecond); most > paceBurst+refillRate/4 {
			t.Errorf("%d bytes in 100 ms", most)
		}
	})
}

// A peer that acknowledges nothing gets a bounded part of a backlog, and the rest later.
func TestBacklogWaitsForAcknowledgments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacedQueue(64 << 20)
		p.acked = false
		count := p.feed(20_000, 5*time.Millisecond, 5*time.Second) // 20 MB
		began := time.Now()
		p.connect()
		p.serve(began.Add(ackPatience - time.Millisecond))
		if size := p.sentBytes; size < paceWindow || size > paceWindow+batchBytes {
			t.Errorf("%d bytes without an acknowledgment, want %d", size, paceWindow)
		}
		p.acknowledge(50, 0)
		p.serve(time.Now().Add(500 * time.Millisecond))
		if size := p.sentBytes; size < paceWindow || size > paceWindow+batchBytes {
			t.Errorf("%d bytes after one, want %d again", size, paceWindow)
		}
		p.acked = true
		p.serve(began.Add(time.Minute))
		if len(p.sent) != count {
			t.Errorf("%d of %d events", len(p.sent), count)
		}
	})
}

// The queue of a node that leaves is sent at once.
func TestLeavingNodeDoesNotPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacedQueue(64 << 20)
		p.feed(2000, 5*time.Millisecond, 10*time.Second)
		p.connect()
		began := time.Now()
		p.serve(began.Add(100 * time.Millisecond))
		before := len(p.sent)
		p.hurry()
		p.serve(began.Add(101 * time.Millisecond))
		if p.unsent() != 0 || before > 500 {
			t.Errorf("%d events are left, and %d had been sent", p.unsent(), before)
		}
	})
}

// Control messages pass a backlog that is paced.
func TestPacingHoldsNoControlMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacedQueue(64 << 20)
		p.feed(2000, 5*time.Millisecond, 10*time.Second)
		p.connect()
		p.serve(time.Now().Add(time.Second))
		p.of.pushControl([]byte("ack"))
		if control, _, _, _ := p.of.next(nil, batchBytes); len(control) != 1 || p.unsent() == 0 {
			t.Errorf("%q while %d events are queued", control, p.unsent())
		}
	})
}

// BenchmarkPacer is the cost of pacing for a batch without a backlog.
func BenchmarkPacer(b *testing.B) {
	var p pacer
	e := &event{group: "job-1", since: time.Now(), position: relay.Position{}}
	for b.Loop() {
		if p.update(e.since, e, 0) {
			b.Fatal("active")
		}
	}
}
