package hub_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/hub/deflate"
)

var clientAddress = netip.MustParseAddr("192.0.2.7")

// bounded is the socket of a client that takes its queue when the test says so.
type bounded struct {
	*inflating
	queue  []queuedFrames
	queued int
	closed bool
	drops  int
}

type queuedFrames struct {
	bytes  []byte
	events int // 0: an answer
	notice bool
}

func (b *bounded) Send(frames []byte, limit int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.queued > 0 && b.queued+len(frames) > limit {
		return false
	}
	n := 0
	for rest := frames; len(rest) > 0; n++ {
		_, _, rest = relay.CutFrame(rest)
	}
	b.add(queuedFrames{bytes: frames, events: n})
	return true
}

func (b *bounded) SendCopy(frames []byte, limit int) bool { return b.Send(slices.Clone(frames), limit) }

func (b *bounded) add(q queuedFrames) {
	b.queue = append(b.queue, q)
	b.queued += len(q.bytes)
}

func (b *bounded) SendAnswer(frames []byte, _ int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(queuedFrames{bytes: frames})
	return true
}

func (b *bounded) SendNotice(frames []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(queuedFrames{bytes: frames, notice: true})
	return true
}

func (b *bounded) DropEvents(int, time.Duration) (d relay.Dropped, ok bool) {
	b.window.Forget()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return d, false
	}
	b.drops++
	left := b.queue
	b.queue, b.queued = nil, 0
	for _, q := range left {
		if q.events > 0 {
			d.Events += q.events
			continue
		}
		b.add(q)
	}
	d.Told = len(b.queue) > 0 && b.queue[len(b.queue)-1].notice
	return d, true
}

func (b *bounded) Waiting() (int, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.queued, false
}

// take has the client take its queue, and returns the texts.
func (b *bounded) take(t testing.TB) []string {
	t.Helper()
	b.mu.Lock()
	for _, q := range b.queue {
		b.buffers = append(b.buffers, q.bytes)
	}
	b.queue, b.queued = nil, 0
	b.mu.Unlock()
	texts, err := b.texts()
	if err != nil {
		t.Fatalf("the client cannot decode what it gets: %v", err)
	}
	return texts
}

// overrunHub returns a hub with small queues, and a client with a bounded socket of a group.
func overrunHub(t testing.TB, deflates bool, optIn bool) (*hub.Hub, *bounded) {
	h, _ := newHub(t)
	limits := relay.DefaultLimits()
	limits.QueuePerConnection = 10_000
	h.SetLimits(limits)
	h.SetProtocol(plainTexts{})
	socket := &bounded{inflating: &inflating{}}
	if deflates {
		socket.inflating = newInflating(15, true)
		if err := h.SetCompression(&deflate.Settings{MinSize: 10, Level: 1}); err != nil {
			t.Fatal(err)
		}
	}
	session := openOn(t, h, socket)
	if optIn {
		session.OptIn()
		follow(t, session, relay.Groups("a-1", "b-1")...)
		socket.take(t)
	} else {
		subscribe(t, h, session, "a-1", "b-1")
	}
	return h, socket
}

func openOn(t testing.TB, h *hub.Hub, socket relay.Socket) *hub.Session {
	t.Helper()
	reservation, err := h.Admit(clientAddress)
	if err == nil {
		err = reservation.Identify(relay.Identity{ID: "1", Key: "1"})
	}
	if err != nil {
		t.Fatal(err)
	}
	return reservation.Open(socket)
}

// numbered delivers n events from a number on, in batches, and waits until the hub has handed them to the sockets.
func numbered(t testing.TB, h *hub.Hub, r *rand.Rand, from, n int) {
	t.Helper()
	before := h.Stats()
	for at := from; at < from+n; {
		events := make([]relay.Event, min(1+r.IntN(20), from+n-at))
		for i := range events {
			text := fmt.Sprintf("%d %s %x", at, strings.Repeat("changed: [host] ", r.IntN(20)), r.Uint64())
			events[i] = relay.Event{Group: []string{"a-1", "b-1"}[r.IntN(2)], Text: []byte(text)}
			at++
		}
		h.Deliver(events)
	}
	testkit.Eventually(t, "all deliveries", func() bool {
		return h.Stats().Deliveries+h.Stats().Missed == before.Deliveries+before.Missed+uint64(n)
	})
}

// checkOverrun checks texts of a client that numbered events were sent to: in order, whole, with one notice at each
// hole, and with the newest event. It returns the number of events.
func checkOverrun(t testing.TB, texts []string, notice string, from, to int) (events int) {
	t.Helper()
	next, hole := from, false
	for _, text := range texts {
		if text == notice {
			if hole {
				t.Fatal("two notices for one hole")
			}
			hole = true
			continue
		}
		text = strings.TrimPrefix(strings.TrimPrefix(text, "event a-1 - "), "event b-1 - ")
		number, _, _ := strings.Cut(text, " ")
		n, err := strconv.Atoi(number)
		switch {
		case err != nil:
			t.Fatalf("an unknown text %.60q", text)
		case n < next:
			t.Fatalf("event %d comes after %d", n, next-1)
		case n > next && !hole && notice != "":
			t.Fatalf("events %d to %d are missing without a notice", next, n-1)
		}
		next, hole = n+1, false
		events++
	}
	if next != to {
		t.Errorf("the last event is %d, want the newest, %d", next-1, to-1)
	}
	return events
}

// A client that cannot take a burst stays connected. It loses the oldest events, learns of it once, and gets the
// newest.
func TestBurstDoesNotCloseAClient(t *testing.T) {
	const resync = `{"resync": true}`
	for _, c := range []struct {
		name            string
		deflates, optIn bool
		resync, notice  string
	}{
		{"positions", false, true, "", "gap a-1,b-1 - overrun 0"},
		{"positions, compression", true, true, "", "gap a-1,b-1 - overrun 0"},
		{"resync", false, false, resync, resync},
		{"resync, compression", true, false, resync, resync},
		{"a client that knows no notice", false, false, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, socket := overrunHub(t, c.deflates, c.optIn)
			h.SetResync(c.resync)
			seed := rand.Uint64()
			r := rand.New(rand.NewPCG(seed, 1))
			t.Logf("seed %d", seed)
			// A hub that is late hands a whole burst over as one batch, which an empty queue takes.
			for round := 0; round < 20 || socket.drops == 0 && round < 2000; round++ {
				from, n := round*1000, 1+r.IntN(1000)
				numbered(t, h, r, from, n)
				texts := socket.take(t)
				events := checkOverrun(t, texts, c.notice, from, from+n)
				if events == n {
					continue
				}
				if notices := len(texts) - events; c.notice != "" && notices != 1 {
					t.Errorf("%d notices for a burst, want one", notices)
				}
			}
			if socket.drops == 0 || socket.closed {
				t.Fatalf("%d times full, closed %v", socket.drops, socket.closed)
			}
			if c.deflates && socket.compressed == 0 {
				t.Error("no event was compressed")
			}
			counts, _ := h.Losses()
			stats := h.Stats()
			if got := counts["overrun"]; got.Events == 0 || stats.Missed > 0 || stats.Slow > 0 {
				t.Errorf("losses %+v, missed %d, slow %d", got, stats.Missed, stats.Slow)
			}
		})
	}
}

// Every dropped event is counted.
func TestDroppedEventsAreCounted(t *testing.T) {
	h, socket := overrunHub(t, false, true)
	r := rand.New(rand.NewPCG(1, 1))
	numbered(t, h, r, 0, 5000)
	events := checkOverrun(t, socket.take(t), "gap a-1,b-1 - overrun 0", 0, 5000)
	if counts, _ := h.Losses(); counts["overrun"].Events != uint64(5000-events) {
		t.Errorf("%d events are counted, %d were dropped", counts["overrun"].Events, 5000-events)
	}
}

// Answers to the client's own messages are never dropped.
func TestAnswersSurviveAnOverrun(t *testing.T) {
	h, _ := newHub(t)
	limits := relay.DefaultLimits()
	limits.QueuePerConnection = 10_000
	h.SetLimits(limits)
	socket := &bounded{inflating: &inflating{}}
	session := openOn(t, h, socket)
	subscribe(t, h, session, "a-1", "b-1")
	r := rand.New(rand.NewPCG(1, 1))
	numbered(t, h, r, 0, 20)
	session.Send([]byte("answer"))
	numbered(t, h, r, 20, 5000)
	if !slices.Contains(socket.take(t), "answer") {
		t.Error("the answer was dropped")
	}
}

// Answers that fill the queue leave no room for events: what a client misses by that is told and counted as well.
func TestEventsBesideAnswersAreTold(t *testing.T) {
	const resync = `{"resync": true}`
	for name, c := range map[string]struct {
		optIn  bool
		notice string
	}{"positions": {true, "gap a-1,b-1 - overrun 0"}, "resync": {false, resync}} {
		for _, several := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", several groups ", several), func(t *testing.T) {
				h, socket := overrunHub(t, false, c.optIn)
				h.SetResync(resync)
				socket.SendAnswer(relay.AppendFrame(nil, make([]byte, 9_900)), 0)
				before := len(socket.queue)
				events := []relay.Event{{Group: "a-1", Text: []byte(strings.Repeat("x", 200))}}
				if several {
					events = append(events, relay.Event{Group: "b-1", Text: events[0].Text})
				}
				for range 3 {
					missed := h.Stats().Missed
					h.Deliver(events)
					testkit.Eventually(t, "the deliveries", func() bool { return h.Stats().Missed == missed+uint64(len(events)) })
				}
				texts := socket.take(t)[before:]
				if len(texts) != 1 || texts[0] != c.notice {
					t.Errorf("the client gets %q, want one notice", texts)
				}
				if counts, _ := h.Losses(); counts["overrun"].Events != uint64(3*len(events)) {
					t.Errorf("%d events are counted as lost, want %d", counts["overrun"].Events, 3*len(events))
				}
			})
		}
	}
}
