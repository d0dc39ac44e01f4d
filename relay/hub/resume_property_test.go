package hub_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/history/ring"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/hub/deflate"
)

// queueing is an interceptor that holds events back until flush, and renders each event for each class. Replays do not
// wait for held events.
type queueing struct {
	mu   sync.Mutex
	held []relay.Event
	hold bool
}

func redacted(events []relay.Event) []relay.Event {
	events = slices.Clone(events)
	for i := range events {
		text := events[i].Text
		events[i].Redaction = &relay.Redaction{Classes: everyClass, Render: func(class uint8) ([]byte, bool) {
			return fmt.Appendf(nil, "%s.%d", text, class), true
		}}
	}
	return events
}

func (q *queueing) Intercept(events []relay.Event) []relay.Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.hold {
		return redacted(events)
	}
	q.held = append(q.held, redacted(events)...)
	return nil
}

func (q *queueing) flush(h *hub.Hub, n int) {
	q.mu.Lock()
	n = min(n, len(q.held))
	events := slices.Clone(q.held[:n])
	q.held = q.held[n:]
	q.mu.Unlock()
	h.Forward(events)
}

func (*queueing) Classify(context.Context, relay.Identity, string) (c relay.Classification, err error) {
	return c, nil
}

func (*queueing) Replay(_ context.Context, events []relay.Event) ([]relay.Event, []relay.Position, error) {
	return redacted(events), nil, nil
}

// trial is a random run with an oracle.
type trial struct {
	t          *testing.T
	r          *rand.Rand
	seed       uint64
	h          *hub.Hub
	model      *modelHistory // nil: ring
	plugins    *queueing     // nil: none
	mailbox    []relay.Event // published, and not delivered
	clients    []*trialClient
	events     map[string]*trialEvent
	ids        int
	deliveries int
	skews      [2]time.Duration
}

type trialEvent struct {
	id        string
	lost      bool
	delivered int // order of delivery, from 1
}

func newTrial(t *testing.T, seed uint64) *trial {
	tr := &trial{t: t, seed: seed, r: rand.New(rand.NewPCG(seed, 1)), events: map[string]*trialEvent{}}
	tr.skews[1] = time.Duration(tr.r.IntN(1900)) * time.Millisecond
	tr.h = hub.New(quiet)
	tr.h.SetAuthorizer(relay.Open{}, 0)
	tr.h.SetProtocol(plainTexts{})
	if err := tr.h.SetBroker(context.Background(), &loopback{}); err != nil {
		t.Fatal(err)
	}
	if seed%2 == 0 {
		if err := tr.h.SetCompression(&deflate.Settings{MinSize: 1, Level: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if tr.r.IntN(2) == 0 { // slow clients are paced, and disconnected
		limits := relay.DefaultLimits()
		limits.QueuePerConnection = 1000
		tr.h.SetLimits(limits)
	}
	if tr.r.IntN(2) == 0 {
		tr.plugins = &queueing{hold: tr.r.IntN(2) == 0}
		tr.h.SetInterceptor(tr.plugins)
	}
	if tr.r.IntN(4) == 0 {
		tr.h.SetHistory(ring.New(relay.HistoryPolicy{Rules: []relay.HistoryRule{
			{Pattern: "h-*", HistoryLimits: relay.HistoryLimits{Count: 20, Bytes: 1 << 20, Age: time.Minute}},
		}}, time.Now))
	} else {
		tr.model = &modelHistory{}
		tr.h.SetHistory(tr.model)
	}
	for range 1 + tr.r.IntN(6) {
		tr.clients = append(tr.clients, &trialClient{
			trial: tr, has: map[string]bool{}, owed: map[string]bool{}, class: uint8(tr.r.IntN(2)),
		})
	}
	return tr
}

func (tr *trial) locked(fn func()) {
	if tr.model == nil {
		fn()
		return
	}
	tr.model.mu.Lock()
	defer tr.model.mu.Unlock()
	fn()
}

func (tr *trial) publish() {
	tr.ids++
	id := "e" + strconv.Itoa(tr.ids)
	tr.events[id] = &trialEvent{id: id}
	for _, c := range tr.clients {
		if c.covered {
			c.owed[id] = true
		}
	}
	ev := relay.Event{Group: "h-1", Text: []byte(id)}
	if tr.r.IntN(20) == 0 { // the mailbox was full
		tr.events[id].lost = true
		tr.h.Lost(relay.Loss{Cause: relay.LossMailboxFull, Groups: []string{"h-1"}, Events: 1})
		return
	}
	if tr.model == nil {
		tr.deliver([]relay.Event{ev})
		return
	}
	at := time.Now().Add(tr.skews[tr.r.IntN(2)]).UnixMicro()
	ev.Position = relay.Position{Micros: at, Mark: uint64(tr.ids)}
	tr.locked(func() { tr.mailbox = append(tr.mailbox, ev) })
	tr.model.store(ev.Position, ev.Text)
}

// receive delivers the first events of the mailbox.
func (tr *trial) receive(n int) {
	var events []relay.Event
	tr.locked(func() {
		n = min(n, len(tr.mailbox))
		events = slices.Clone(tr.mailbox[:n])
		tr.mailbox = tr.mailbox[n:]
	})
	if n > 0 {
		tr.deliver(events)
	}
}

func (tr *trial) deliver(events []relay.Event) {
	for i := range events {
		tr.deliveries++
		tr.events[string(events[i].Text)].delivered = tr.deliveries
	}
	tr.h.Deliver(events)
}

// step does something at random.
func (tr *trial) step() {
	c := tr.clients[tr.r.IntN(len(tr.clients))]
	switch n := tr.r.IntN(20); {
	case n < 6:
		tr.publish()
	case n < 9:
		tr.receive(1 + tr.r.IntN(4))
	case n < 11 && tr.plugins != nil:
		tr.plugins.flush(tr.h, 1+tr.r.IntN(3))
	case n < 14:
		if c.session == nil {
			c.connect()
		} else if tr.r.IntN(2) == 0 {
			c.disconnect()
		}
	case n == 14 && c.session != nil:
		before := c.class
		c.class = uint8(tr.r.IntN(2))
		c.subscribe(relay.Subscription{Group: "h-1", Class: c.class})
		if c.class != before {
			c.reclassified = maps.Clone(c.owed)
			c.socket.mu.Lock()
			c.classAt = c.socket.sent
			c.socket.mu.Unlock()
		}
	case n == 15 && c.session != nil:
		c.socket.mu.Lock()
		c.socket.blocked = !c.socket.blocked
		c.socket.mu.Unlock()
	case n == 16 && tr.model != nil:
		tr.outage()
	case n == 17:
		time.Sleep(time.Duration(tr.r.IntN(3000)) * time.Millisecond)
	case c.session != nil:
		c.take()
	}
	if tr.r.IntN(2) == 0 {
		time.Sleep(time.Duration(tr.r.IntN(120)) * time.Millisecond)
	} else if tr.r.IntN(2) == 0 {
		synctest.Wait()
	}
}

// outage does something to the history.
func (tr *trial) outage() {
	switch m := tr.model; tr.r.IntN(6) {
	case 0:
		m.wipe()
	case 1:
		m.trim(tr.r.IntN(20))
	case 2:
		tr.locked(func() { m.failing = true })
	default:
		tr.locked(func() { m.failing, m.slow = false, time.Duration(tr.r.IntN(200))*time.Millisecond })
	}
}

// end lets all clients come back, and checks that they have all that they may expect.
func (tr *trial) end() {
	if tr.model != nil {
		tr.locked(func() { tr.model.failing = false })
	}
	tr.receive(len(tr.mailbox))
	for range 3 {
		for _, c := range tr.clients {
			if c.session == nil {
				c.connect()
			}
			c.socket.mu.Lock()
			c.socket.blocked = false
			c.socket.mu.Unlock()
		}
		if tr.plugins != nil {
			tr.plugins.flush(tr.h, 1000)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for _, c := range tr.clients {
			if c.session != nil {
				c.take()
			}
		}
	}
	for i, c := range tr.clients {
		if c.session == nil || !c.begun {
			c.fail("client %d has no subscription", i)
			continue
		}
		for id := range c.owed {
			c.fail("client %d has missed %s", i, id)
		}
		if c.replay > 0 {
			c.fail("client %d misses %d events of the replay", i, c.replay)
		}
	}
	if st := tr.h.ResumeStats(); st.Waiting != 0 {
		tr.t.Errorf("seed %d: %d subscriptions wait", tr.seed, st.Waiting)
	}
	for _, c := range tr.clients {
		if c.session != nil {
			c.disconnect()
		}
	}
}

// TestReplayAndLiveStreamMerge: whatever happens to the history, to connections and to events on their way, each client
// gets each event once and in order, or is told the truth.
func TestReplayAndLiveStreamMerge(t *testing.T) {
	for seed := range uint64(1000) {
		synctest.Test(t, func(t *testing.T) {
			tr := newTrial(t, seed)
			for range 80 {
				tr.step()
			}
			tr.end()
			if err := tr.h.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
		if t.Failed() {
			return
		}
	}
}
