package backplane_test

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/jobevents"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// throttle returns a function that passes bytes at a rate, for each connection.
func throttle(bytesPerSecond int) testkit.Relay {
	var mu sync.Mutex
	free := map[int]time.Time{} // when the link is free again
	return func(conn int, b []byte, to io.Writer) {
		for len(b) > 0 {
			n := min(len(b), 2<<10)
			mu.Lock()
			at := free[conn]
			if now := time.Now(); at.Before(now) {
				at = now
			}
			at = at.Add(time.Duration(n) * time.Second / time.Duration(bytesPerSecond))
			free[conn] = at
			mu.Unlock()
			time.Sleep(time.Until(at)) // the slowness of the link
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
			b = b[n:]
		}
	}
}

// emitJobs emits events of a job, for some time and so many per second, each with its number in front.
func (n *node) emitJobs(group string, perSecond int, during time.Duration) (count int) {
	job, began := jobevents.New(1, 1), time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for now := began; now.Sub(began) < during; now = <-tick.C {
		for ; float64(count) < now.Sub(began).Seconds()*float64(perSecond); count++ {
			n.emit(group, fmt.Sprint(group, " ", count, " ")+string(job.Next()))
		}
	}
	return count
}

// awaitAll waits until the client has all events, and checks that they came in order.
func (c *client) awaitAll(t testing.TB, group string, count int) {
	t.Helper()
	testkit.EventuallyWithin(t, 2*time.Minute, "all events", func() error {
		if got := c.count(); got != count {
			return fmt.Errorf("%d of %d events", got, count)
		}
		return nil
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	for n, text := range c.texts {
		if !strings.HasPrefix(text, fmt.Sprint(group, " ", n, " ")) {
			t.Fatalf("event %d is %.60s", n, text)
		}
	}
}

// A link of 1 Mbit/s carries more than twice as much of AWX's events, because they are compressed once they wait.
func TestSlowLinkKeepsUp(t *testing.T) {
	const perSecond, during, rate = 100, 8 * time.Second, 1_000_000 / 8
	for name, untimed := range map[string]bool{"compressed": false, "before timed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := newNode(t, memory.NewLayer()), newNode(t, memory.NewLayer())
			b.untimed = untimed
			link := testkit.StartRelay(t, a.server.Listener.Addr().String(), throttle(rate), throttle(rate))
			a.start(swift)
			b.start(swift, peersOf("http://"+link.Addr))
			b.awaitSources(1)
			a.awaitSources(1)
			c := b.client("job-1")
			count := a.emitJobs("job-1", perSecond, during)
			emitted := time.Now()
			behind := count - c.count()
			lag := b.peer().ArrivalLag
			c.awaitAll(t, "job-1", count)
			late := time.Since(emitted)
			t.Logf("%d events of %d KB in %v: %d behind at the end, the last one %v late; the largest lag was %.1f s",
				count, len(c.texts[0])>>10, during, behind, late.Round(time.Millisecond), lag)
			if untimed {
				return
			}
			if limit := testkit.Patience / 5; late > limit {
				t.Errorf("the last event was %v late, want at most %v", late, limit)
			}
			if p := b.peer(); p.Faults != 0 || p.ArrivalLag == 0 {
				t.Errorf("%+v", p)
			}
		})
	}
}

// After an outage, what was queued does not arrive in one burst, but at a multiple of its pace, in order and complete.
// The receiving node sees how late it is.
func TestOutageIsCaughtUpAtAPace(t *testing.T) {
	const perSecond, outage = 500, 6 * time.Second
	a, b := newNode(t, memory.NewLayer()), newNode(t, memory.NewLayer())
	link := testkit.StartProxy(t, a.server.Listener.Addr().String())
	patient := func(s *backplane.Settings) { s.QueueBytes = 32 << 20 }
	a.start(swift, patient)
	log := b.start(swift, patient, peersOf("http://"+link.Addr))
	b.awaitSources(1)
	a.awaitSources(1)
	c := b.client("job-1")
	emitted := make(chan int)
	go func() { emitted <- a.emitJobs("job-1", perSecond, 2*outage) }()
	testkit.Eventually(t, "events before the outage", func() bool { return c.count() > 100 })
	link.Stall()
	link.Cut()
	time.Sleep(outage) // the outage
	before := c.count()
	link.Resume()
	var began time.Time
	testkit.Eventually(t, "an event after the outage", func() bool {
		began = time.Now()
		return c.count() > before
	})
	backlog := int(outage.Seconds()) * perSecond * 9 / 10
	testkit.EventuallyWithin(t, time.Minute, "the backlog", func() bool { return c.count() > before+backlog })
	took := time.Since(began)
	t.Logf("%d events after an outage of %v, in %v; lag on arrival %.1f s", backlog, outage, took.Round(time.Millisecond), b.peer().ArrivalLag)
	if least := outage / 6; took < least { // one burst takes a tenth of that
		t.Errorf("the backlog arrived in %v, want at least %v", took, least)
	}
	if lag := b.peer().ArrivalLag; lag < outage.Seconds()-1 {
		t.Errorf("a lag on arrival of %.1f s after an outage of %v", lag, outage)
	}
	c.awaitAll(t, "job-1", <-emitted)
	testkit.Eventually(t, "log lines", func() error {
		for _, line := range []string{"events of peer late", "events of peer in time again"} {
			if strings.Count(log.String(), line) != 1 {
				return fmt.Errorf("not logged once: %s", line)
			}
		}
		return nil
	})
}
