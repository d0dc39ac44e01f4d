package backplane

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/internal/testkit/jobevents"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// lastMessage returns the last message that is queued for a link's peer.
func lastMessage(t *testing.T, l *link) (m message) {
	t.Helper()
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	if n := len(l.queue.control); n == 0 {
		t.Fatal("no message")
	} else if err := json.Unmarshal(l.queue.control[n-1], &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// jobBatch returns events like those of AWX's jobs.
func jobBatch(count, groups int) (events []*event) {
	var jobs []*jobevents.Job
	for g := range groups {
		jobs = append(jobs, jobevents.New(g+1, 1))
	}
	for n := range count {
		events = append(events, &event{
			group: fmt.Sprint("job_events-", n%groups), text: jobs[n%groups].Next(),
			sent: 1_764_378_000_123_456 + int64(n)*1000, since: time.Now(),
		})
	}
	return events
}

// timedBatches returns a batch of events plain and compressed.
func timedBatches(t testing.TB, head timedHead, number uint64, events []*event) (plain, compressed []byte) {
	plain = appendNumberedHead(appendTimedHead(nil, formatPlain, head), number, len(events))
	for _, e := range events {
		plain = appendNumbered(plain, e, true)
	}
	if compressed = (&link{types: true}).compressBatch(head, number, events, 64<<10); compressed == nil {
		t.Fatal("not compressed")
	}
	return plain, compressed
}

func TestTimedBatches(t *testing.T) {
	events := jobBatch(20, 2)
	head := timedHead{sent: -5, waited: 3 * time.Second}
	plain, compressed := timedBatches(t, head, 7, events)
	if len(compressed) > len(plain)/5 {
		t.Errorf("%d of %d bytes when compressed", len(compressed), len(plain))
	}
	want, _ := decodeNumbered(numbered(7, events...), 0, func(f fault) { t.Error(f) })
	for _, b := range [][]byte{plain, compressed} {
		got, batch, ok := decodeTimed(b, 10, 1<<20, func(f fault) { t.Error(f) })
		if !ok || got != head || batch.first != 7 || batch.last != 26 || batch.skipped != 4 || batch.unread != 0 {
			t.Fatalf("%+v, events %d to %d", got, batch.first, batch.last)
		}
		if !slices.EqualFunc(batch.events, want.events[4:], func(a, b relay.Event) bool {
			return a.Group == b.Group && bytes.Equal(a.Text, b.Text) && a.Sent.Equal(b.Sent)
		}) {
			t.Error("the events are others")
		}
	}
}

// A batch whose events are damaged costs exactly these events; a batch with a damaged head costs an unknown number.
func TestDamagedTimedBatches(t *testing.T) {
	events := jobBatch(20, 2)
	_, compressed := timedBatches(t, timedHead{}, 7, events)
	damaged := bytes.Clone(compressed)
	damaged[len(damaged)/2] ^= 1
	size := len(numbered(7, events...))
	for name, test := range map[string]struct {
		batch         []byte
		after         uint64
		limit, unread int
		ok            bool
		bad           fault
	}{
		"damaged":           {damaged, 0, 1 << 20, 20, true, faultBroken},
		"damaged and known": {damaged, 20, 1 << 20, 6, true, faultBroken},
		"cut":               {compressed[:len(compressed)-9], 0, 1 << 20, 20, true, faultBroken},
		"beyond the limit":  {compressed, 0, size / 2, 20, true, faultTooLarge},
		"unknown format":    {append([]byte{lastFormat + 1}, compressed[1:]...), 0, 1 << 20, 0, false, faultBroken},
		"without events":    {compressed[:3], 0, 1 << 20, 0, false, faultBroken},
		"empty":             {nil, 0, 1 << 20, 0, false, faultBroken},
	} {
		var bad []fault
		_, batch, ok := decodeTimed(test.batch, test.after, test.limit, func(f fault) { bad = append(bad, f) })
		if ok != test.ok || batch.unread != test.unread || len(batch.events) != 0 || !slices.Equal(bad, []fault{test.bad}) {
			t.Errorf("%s: ok %v, %d unread, %d events, faults %v; want %+v", name, ok, batch.unread, len(batch.events), bad, test)
		}
		if ok && (batch.first != 7 || batch.last != 26) {
			t.Errorf("%s: events %d to %d", name, batch.first, batch.last)
		}
	}
}

// A damaged batch on a link costs its events, one fault and one report; the link goes on with the next batch.
func TestLinkSurvivesDamage(t *testing.T) {
	l := newTestLink(t)
	l.in, l.resumes, l.timed = l.b.incomingOf("peer"), true, true
	l.phaseNow.Store(int32(phaseSource))
	l.in.ask(l)
	_, first := timedBatches(t, timedHead{}, 1, jobBatch(20, 2))
	_, second := timedBatches(t, timedHead{}, 41, jobBatch(20, 2)) // 21 to 40 are in the one between
	first[len(first)-20] ^= 0x55
	third := append([]byte{99}, second[1:]...) // of a version that is not known
	for _, b := range [][]byte{first, third, second} {
		if err := l.receiveV1(websocket.MessageBinary, b); err != nil {
			t.Fatal(err)
		}
	}
	losses, _ := l.b.hub.(*hub.Hub).Losses()
	if loss := losses[relay.LossPeer.String()]; loss.Times != 2 || loss.Events != 20 {
		t.Errorf("reported %+v, want 20 events of the first batch, and an unknown number of the one in between", loss)
	}
	if faults := l.faults.Load(); faults != 2 {
		t.Errorf("%d faults, want one for each damaged batch", faults)
	}
	if in := l.eventsIn.Load(); in != 20 || l.in.delivered.Load() != 60 || l.jumped.Load() {
		t.Errorf("%d events arrived, up to number %d; a loss is outstanding: %v", in, l.in.delivered.Load(), l.jumped.Load())
	}
}

// A batch that would expand beyond its account or beyond the limit takes no memory for that.
func TestTimedBatchIsNoBomb(t *testing.T) {
	bomb := codec().enc.EncodeAll(make([]byte, 64<<20), nil)
	for name, size := range map[string]uint64{"honest": 64 << 20, "too small": 1000, "absurd": 1 << 62} {
		b := appendNumberedHead(appendTimedHead(nil, formatZstd, timedHead{}), 1, 900)
		b = append(binary.AppendUvarint(b, size), bomb...)
		const runs = 10
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			faults := 0
			_, batch, ok := decodeTimed(b, 0, 1<<20, func(fault) { faults++ })
			if !ok || batch.unread != 900 || len(batch.events) != 0 || faults != 1 {
				t.Errorf("%s: ok %v, %d unread, %d faults", name, ok, batch.unread, faults)
			}
		}
		runtime.ReadMemStats(&after)
		if bytes := (after.TotalAlloc - before.TotalAlloc) / runs; bytes > 512<<10 {
			t.Errorf("%s: %d bytes allocated", name, bytes)
		}
	}
}

// Compression happens where it pays: with a backlog on a slow link, and with an old backlog on any.
func TestCompressionNeedsABacklog(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		waited, flush, unacknowledged time.Duration
		size                          int
		want                          bool
	}{
		{0, 0, 0, 60_000, false},
		{0, time.Second, ackDelay, 60_000, false},
		{60 * time.Millisecond, time.Millisecond, ackDelay, 60_000, false}, // a busy machine on a fast network
		{60 * time.Millisecond, 20 * time.Millisecond, 0, 60_000, true},
		{60 * time.Millisecond, 20 * time.Millisecond, 0, 500, false},
		{2 * time.Second, 0, 0, 60_000, true}, // after an outage
		{0, 0, 2 * time.Second, 60_000, true}, // the kernel or the network queues
	} {
		s := slowness{flushTook: test.flush}
		if got := s.compresses(now, test.waited, test.unacknowledged, test.size); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}

// A slow link stays compressed for a while, and longer each time if it is slow again soon.
func TestSlowLinkStaysCompressed(t *testing.T) {
	var s slowness
	now := time.Now()
	holds := func() (held time.Duration) {
		s.compresses(now, slowAge, 0, 60_000)
		for ; s.compresses(now, 0, 0, 60_000); held += time.Second {
			now = now.Add(time.Second)
		}
		return held
	}
	for i, want := range []time.Duration{slowMin, 2 * slowMin, 4 * slowMin, 8 * slowMin, 16 * slowMin, slowMax, slowMax} {
		if got := holds(); got != want {
			t.Errorf("time %d: compressed for %v, want %v", i, got, want)
		}
		now = now.Add(time.Second)
	}
	now = now.Add(slowAgain + time.Second)
	if got := holds(); got != slowMin {
		t.Errorf("after a rest: compressed for %v, want %v", got, slowMin)
	}
}

func TestUselessCompressionStops(t *testing.T) {
	l, now := &link{}, time.Now()
	if l.compressBatch(timedHead{}, 1, []*event{{group: "a", text: randomText(4000)}}, 4100) != nil {
		t.Error("a batch that does not shrink is compressed")
	}
	for range plainAfterWaste {
		if l.slowness.compresses(now, time.Minute, 0, 4000) {
			t.Fatal("tried again at once")
		}
	}
	if !l.slowness.compresses(now, time.Minute, 0, 4000) {
		t.Error("never tried again")
	}
}

// randomText returns bytes without repetitions.
func randomText(n int) []byte {
	b, x := make([]byte, n), uint64(88172645463325252)
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return b
}

func FuzzTimed(f *testing.F) {
	events := jobBatch(3, 2)
	plain, compressed := timedBatches(f, timedHead{sent: 1, waited: time.Second}, 1, events)
	f.Add(plain, uint64(0))
	f.Add(compressed, uint64(2))
	f.Add([]byte("\x02\x00\x00\x01\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), uint64(0))
	f.Fuzz(func(t *testing.T, b []byte, after uint64) {
		const limit = 1 << 16
		faults := 0
		head, batch, ok := decodeTimed(b, after, limit, func(fault) { faults++ })
		if !ok {
			if faults != 1 {
				t.Errorf("%d faults of a broken head", faults)
			}
			return
		}
		count := batch.last - batch.first + 1
		if got := len(batch.events) + batch.skipped + batch.unread; uint64(got) > count || batch.unread < 0 {
			t.Errorf("%d events, %d skipped and %d unread of %d", len(batch.events), batch.skipped, batch.unread, count)
		}
		if batch.unread > 0 && faults == 0 {
			t.Error("events are unread without a fault")
		}
		if head.waited < 0 || head.waited > maxWaited {
			t.Errorf("waited %v", head.waited)
		}
		size := 0
		for _, ev := range batch.events {
			size += len(ev.Text)
		}
		if size > max(limit, len(b)) {
			t.Errorf("%d bytes of text from %d", size, len(b))
		}
	})
}
