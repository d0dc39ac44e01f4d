package backplane

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// A peer reads a stream over links that break at random: it has each event once and in order, or a report.
func TestRetainedQueue(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		one := &event{group: "g", text: []byte("0000")}
		q := newQueue(20 * one.cost())
		q.base = 1
		link := newQueue(1000)
		var last, lost, report uint64 // of the peer
		pushed, got := 0, 0
		attach := func() {
			link = newQueue(1000)
			q.attach(link, last, report, func(first, _ uint64, _ []*refill) { last = max(last, first-1) })
		}
		read := func(arrive int) {
			number, events, loss := q.nextNumbered(link, nil, 5*one.cost(), time.Now())
			for n := range min(arrive, len(events)) {
				at := number + uint64(n)
				if at <= last {
					t.Fatalf("seed %d: event %d came again", seed, at)
				}
				last = at
				got++
				if want := fmt.Sprint(last); string(events[n].text) != want {
					t.Fatalf("seed %d: event %s has number %s", seed, events[n].text, want)
				}
			}
			if loss.number > 0 && arrive >= len(events) {
				lost, report = lost+loss.count, loss.number
			}
		}
		attach()
		for range 300 {
			switch random.IntN(8) {
			case 0: // the link breaks while events are on it
				read(random.IntN(3))
				q.detach()
				for range random.IntN(30) {
					pushed++
					q.push(&event{group: "g", text: fmt.Append(nil, pushed)})
				}
				attach()
			case 1, 2:
				read(100)
				q.acknowledge(last, report)
			case 3:
				read(100)
			default:
				pushed++
				q.push(&event{group: "g", text: fmt.Append(nil, pushed)})
			}
		}
		for range 20 {
			read(100)
			q.acknowledge(last, report)
		}
		if int(last) != pushed {
			t.Fatalf("seed %d: the last event is %d of %d", seed, last, pushed)
		}
		if got+int(lost) != pushed {
			t.Fatalf("seed %d: %d events came and %d were reported of %d", seed, got, lost, pushed)
		}
		if n, bytes, _ := q.load(); n != 0 || bytes != 0 || q.count != 0 || q.bytes != 0 || q.sentBytes != 0 {
			t.Fatalf("seed %d: %d events of %d bytes are left; %+v", seed, n, bytes, q)
		}
	}
}
