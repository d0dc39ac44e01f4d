package backplane_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// One peer's link stalls silently under load. No other peer waits, memory stays bounded, the oldest events are
// dropped for that peer alone, and the peer recovers when the link works again.
func TestStalledLink(t *testing.T) {
	leakCheck(t)
	source, near, far := newNode(t, memory.NewLayer()), newNode(t, memory.NewLayer()), newNode(t, memory.NewLayer())
	link := testkit.StartProxy(t, source.server.Listener.Addr().String())
	const queueBytes = 256 << 10
	quick := func(s *backplane.Settings) {
		s.Ping, s.Silence = 500*time.Millisecond, 3*time.Second
		s.QueueBytes = queueBytes
	}
	log := source.start(quick)
	near.start(quick, peersOf(source.server.URL))
	far.start(quick, peersOf("http://"+link.Addr)) // the only way between far and source
	for _, n := range []*node{near, far} {
		n.awaitSources(1)
	}
	source.awaitSources(2)
	local, onNear, onFar := source.client("g-1"), near.client("g-1"), far.client("g-1")
	next := 0
	// load emits events as fast as the near node receives them, and expects each once there and at the source.
	load := func(count int) time.Duration {
		t.Helper()
		for _, c := range []*client{local, onNear} {
			c.forget()
		}
		want := map[string]bool{}
		began := time.Now()
		for n := range count {
			event := noise(next, 1000)
			next++
			source.emit("g-1", event)
			want[event] = true
			if n%200 == 199 {
				testkit.Eventually(t, "the event at the near node", func() error {
					if got := onNear.count(); got <= n {
						return fmt.Errorf("%d of %d events", got, n+1)
					}
					return nil
				})
			}
		}
		took := time.Since(began)
		local.exactly(t, want)
		onNear.exactly(t, want)
		return took
	}
	load(200)
	testkit.Eventually(t, "all events at the far node", func() error {
		if got := onFar.count(); got != 200 {
			return fmt.Errorf("%d of 200 events at the far node", got)
		}
		return nil
	})
	const count = 20 * queueBytes / 1000 // twenty times the bytes that may be queued
	healthy := load(count)
	for _, c := range []*client{local, onNear, onFar} { // the memory of the test itself
		c.forget()
	}
	link.Stall()
	before := heap()
	stalled := load(count)
	for _, c := range []*client{local, onNear, onFar} {
		c.forget()
	}
	grown := int64(heap()) - int64(before)
	t.Logf("%d events of 1 KB: %v with a healthy link, %v with a stalled one; the heap grew by %d KiB", count, healthy, stalled, grown>>10)
	if grown > 12*queueBytes {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	if stalled > 3*healthy+time.Second { // below Silence, at which a blocked source would go on
		t.Errorf("the near node had to wait: %v with a stalled link, %v with a healthy one", stalled, healthy)
	}
	if s := source.plane.Stats(); s.Dropped["queue_full"] == 0 {
		t.Errorf("dropped: %v", s.Dropped)
	}
	if !strings.Contains(log.String(), "slow peer, oldest events dropped") {
		t.Error("the log does not say that events are dropped")
	}

	// The stalled link times out, and a new one follows when the network works again.
	testkit.Eventually(t, "one source", func() error {
		if n := source.sources(); n != 1 {
			return fmt.Errorf("the source still listens to %d peers", n)
		}
		return nil
	})
	link.Resume()
	healed := time.Now()
	far.awaitSources(1)
	source.awaitSources(2)
	t.Logf("healed %v after the link", time.Since(healed).Round(time.Millisecond))
	again := far.client("g-2")
	source.emit("g-2", "after")
	again.exactly(t, set([]string{"after"}))
}

// A link that is only slow stays up, loses the oldest events, and says how many.
func TestSlowLink(t *testing.T) {
	leakCheck(t)
	source, far := newNode(t, memory.NewLayer()), newNode(t, memory.NewLayer())
	link := testkit.StartProxy(t, source.server.Listener.Addr().String())
	small := func(s *backplane.Settings) {
		s.Ping, s.Silence, s.QueueBytes = 200*time.Millisecond, 5*time.Second, 256<<10
	}
	log := source.start(small)
	farLog := far.start(small, peersOf("http://"+link.Addr))
	far.awaitSources(1)
	source.awaitSources(1)
	c := far.client("g-1")
	since := source.plane.Peers()[0].Since
	link.Slow(3 * time.Millisecond) // about a megabyte a second
	const count = 6000
	for i := range count {
		source.emit("g-1", noise(i, 1000))
	}
	last := fmt.Sprintf(`{"n": %d,`, count-1)
	testkit.Eventually(t, "the last event", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if n := len(c.texts); n == 0 || !strings.HasPrefix(c.texts[n-1], last) {
			return fmt.Errorf("%d events so far", n)
		}
		return nil
	})
	testkit.Eventually(t, "each event delivered or counted as dropped", func() error {
		dropped := source.plane.Stats().Dropped["queue_full"]
		if got := uint64(c.count()); got+dropped != count {
			return fmt.Errorf("%d came and %d were dropped of %d", got, dropped, count)
		}
		if dropped == 0 || !strings.Contains(log.String(), "slow peer recovered") || !strings.Contains(farLog.String(), "peer reports lost events") {
			return fmt.Errorf("%d dropped, and the logs do not say so on both sides", dropped)
		}
		return nil
	})
	for _, p := range source.plane.Peers() {
		if p.State != backplane.StateConnected || !p.Since.Equal(since) || p.RTT <= 0 {
			t.Errorf("%+v", p)
		}
	}
}
