package sortedset_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/relay"
)

func TestNodesGiveAnEventOnePosition(t *testing.T) {
	server, c := peers.StartRedis(t), newClock()
	a, b := newNode(t, server, c), newNode(t, server, c)
	ev := a.event("job1", "x")
	if other := b.event("job1", "x"); ev.Position.IsZero() || other.Position != ev.Position {
		t.Fatalf("%v and %v", ev.Position, other.Position)
	}
	for name, other := range map[string]relay.Event{
		"text": b.event("job1", "y"), "group": b.event("job2", "x"),
		"time": b.event("job1", "x", c.now().Add(time.Microsecond)),
	} {
		if other.Position.Mark == ev.Position.Mark {
			t.Errorf("the mark does not depend on the %s", name)
		}
	}
	a.write(ev)
	b.write(ev)
	if n := server.Do("ZCARD", "edgerelay:history:asgi:g:job1"); n != int64(1) {
		t.Errorf("%v entries, want 1", n)
	}
	if p := a.event("other", "x").Position; !p.IsZero() {
		t.Errorf("a group without history: %v", p)
	}
	if p := a.event("job1", "x", c.now().Add(time.Hour)).Position; !p.IsZero() {
		t.Errorf("an event from the future: %v", p)
	}
}

func TestResume(t *testing.T) {
	server, c := peers.StartRedis(t), newClock()
	a, b := newNode(t, server, c), newNode(t, server, c)
	at := a.emit("job1", "a", "b")
	at = append(at, b.emit("job1", "c")...)
	p := b.read("job1", at[0], at[2], relay.Position{Micros: at[1].Micros, Mark: 1})
	wantResumable(t, p, nil, nil, relay.NotRecoveredUnknown)
	if texts(p) != "[a b c]" || p.Head != at[2] || p.Events[1].Position != at[1] || p.Events[0].Source != relay.FromHistory {
		t.Errorf("%s, head %v", texts(p), p.Head)
	}
	c.advance(3 * time.Second)
	last := a.emit("job1", "d")[0]
	if p := b.read("job1", last); texts(p) != "[d]" {
		t.Errorf("from %v on: %s", last, texts(p))
	}
	if p := b.query(relay.HistoryQuery{Group: "job1", Latest: 2}); texts(p) != "[c d]" {
		t.Errorf("the latest two: %s", texts(p))
	}
	pages := a.Read(context.Background(), []relay.HistoryQuery{{Group: "other"}, {Group: "job1", Latest: 1}})
	if !errors.Is(pages[0].Err, relay.NotRecoveredOff) || texts(pages[1]) != "[d]" {
		t.Errorf("%v, %s", pages[0].Err, texts(pages[1]))
	}
}

// Equal texts of different times are different events.
func TestEqualTexts(t *testing.T) {
	n := newNode(t, peers.StartRedis(t), newClock())
	at := n.emit("job1", "x", "x", "x")
	if p := n.read("job1", at[0]); texts(p) != "[x x x]" {
		t.Errorf("got %s", texts(p))
	}
}

func TestHeadOfAnEmptyGroup(t *testing.T) {
	server, c := peers.StartRedis(t), newClock()
	a, b := newNode(t, server, c), newNode(t, server, c)
	a.Joined([]string{"job1"})
	head := a.read("job1").Head
	if head.IsZero() || b.read("job1").Head != head {
		t.Fatalf("heads %v, %v", head, b.read("job1").Head)
	}
	if ttl, _ := server.Do("PTTL", "edgerelay:history:asgi:g:job1").(int64); ttl <= 0 {
		t.Errorf("the key lives for ever")
	}
	c.advance(time.Hour)
	wantResumable(t, b.read("job1", head), nil)
	a.emit("job1", "a")
	p := b.read("job1", head)
	wantResumable(t, p, nil)
	if texts(p) != "[a]" {
		t.Errorf("got %s", texts(p))
	}
	c.advance(time.Hour)
	a.tick()
	wantResumable(t, b.read("job1", head), relay.NotRecoveredUnknown)
}

func TestGaps(t *testing.T) {
	server, c := peers.StartRedis(t), newClock()
	a, b := newNode(t, server, c), newNode(t, server, c)
	before := a.emit("job1", "a")[0]
	other := a.emit("job2", "x")[0]
	gap := a.MarkGap(relay.Loss{Groups: []string{"job1", "without"}})
	wantResumable(t, a.read("job1", before), relay.NotRecoveredGap) // It is not in Redis yet.
	a.tick()
	after := a.emit("job1", "b")[0]
	p := b.read("job1", before, gap, after)
	wantResumable(t, p, relay.NotRecoveredGap, nil, nil)
	if texts(p) != "[a b]" || p.Head != after {
		t.Errorf("%s, head %v", texts(p), p.Head)
	}
	wantResumable(t, b.read("job2", other), nil)
	c.advance(2 * time.Second)
	later := a.emit("job1", "c")[0]
	wantResumable(t, b.read("job1", later), nil)

	// After a loss of unknown extent, events of the next two seconds may be from before.
	all := b.MarkGap(relay.Loss{All: true})
	b.tick()
	after = a.emit("job1", "d")[0]
	p = b.read("job1", after)
	wantResumable(t, p, relay.NotRecoveredGap)
	wantResumable(t, a.read("job1", p.Head), nil)
	if again := a.read("job1").Head; again != p.Head {
		t.Errorf("heads %v and %v", p.Head, again)
	}
	wantResumable(t, a.read("job1", later, all), relay.NotRecoveredGap, nil)
	wantResumable(t, a.read("job2", other), relay.NotRecoveredGap)
	if at := a.MarkGap(relay.Loss{Groups: []string{"without"}}); !at.IsZero() {
		t.Errorf("a gap of a group without history: %v", at)
	}
	for range 50 {
		b.MarkGap(relay.Loss{All: true})
		b.tick()
	}
	if n, _ := server.Do("ZCARD", "edgerelay:history:asgi:gaps").(int64); n > 20 {
		t.Errorf("%d gaps are kept", n)
	}
	wantResumable(t, a.read("job1", later, all), relay.NotRecoveredGap, relay.NotRecoveredUnknown)
}

func TestTrimByCount(t *testing.T) {
	c := newClock()
	server, tight := peers.StartRedis(t), withLimits(relay.HistoryLimits{Count: 3, Bytes: 1000, Age: time.Minute})
	n, slow := newNode(t, server, c, tight), newNode(t, server, c, tight)
	at := n.emit("job1", "a", "b", "c", "d", "e")
	n.tick()
	p := n.query(relay.HistoryQuery{Group: "job1", After: at, Latest: 10})
	wantResumable(t, p, relay.NotRecoveredUnknown, nil, nil, nil, nil)
	if texts(p) != "[c d e]" {
		t.Errorf("left: %s", texts(p))
	}
	if s := n.HistoryStats(); s.Bytes < 3 || s.Trimmed != 2 || s.Recorded != 5 || s.Groups != 1 {
		t.Errorf("%+v", s)
	}
	// A slow node writes what was removed.
	slow.write(n.event("job1", "a", time.UnixMicro(at[0].Micros)))
	p = n.query(relay.HistoryQuery{Group: "job1", After: at[:2], Latest: 10})
	wantResumable(t, p, relay.NotRecoveredUnknown, nil)
	if texts(p) != "[c d e]" {
		t.Errorf("with a late write: %s", texts(p))
	}
}

func TestTrimByBytes(t *testing.T) {
	server, c := peers.StartRedis(t), newClock()
	option := withLimits(relay.HistoryLimits{Count: 1000, Bytes: 1000, Age: time.Minute})
	a := newNode(t, server, c, option)
	for i := range 300 {
		a.emit("job1", strings.Repeat("x", i))
	}
	a.tick()
	check := func() {
		t.Helper()
		p, sum := a.query(relay.HistoryQuery{Group: "job1", Latest: 1000}), 0
		for _, ev := range p.Events {
			sum += len(ev.Text)
		}
		if sum > 1000 || sum < 500 {
			t.Errorf("%d bytes are left in %d events", sum, len(p.Events))
		}
	}
	check()
	b := newNode(t, server, c, option) // It has not seen the earlier events.
	b.emit("job1", strings.Repeat("y", 400), strings.Repeat("z", 400))
	b.tick()
	a.tick()
	a.emit("job1", "a")
	a.tick()
	check()
	big := a.emit("job1", strings.Repeat("b", 2000))[0]
	a.tick()
	p := a.read("job1", big)
	wantResumable(t, p, nil)
	if len(p.Events) != 0 || p.Head != big {
		t.Errorf("%d events, head %v", len(p.Events), p.Head)
	}
}

func TestTrimByAge(t *testing.T) {
	server, c := peers.StartRedis(t), newClock()
	a, b := newNode(t, server, c), newNode(t, server, c)
	at := a.emit("job1", "a", "b")
	c.advance(2 * limits.Age)
	a.tick()
	p := b.query(relay.HistoryQuery{Group: "job1", After: at, Latest: 5})
	wantResumable(t, p, relay.NotRecoveredUnknown, nil)
	if len(p.Events) > 0 || p.Head != at[1] {
		t.Errorf("%s, head %v", texts(p), p.Head)
	}
	c.advance(time.Hour)
	a.tick()
	b.emit("job1", "c")
	p = a.read("job1", at[1])
	wantResumable(t, p, nil)
	if texts(p) != "[c]" {
		t.Errorf("an hour later: %s", texts(p))
	}
}

// A group is quiet for longer than the age of events, and its node was replaced by one that has removed nothing.
func TestQuietGroup(t *testing.T) {
	server, c := peers.StartRedis(t), newClock()
	at := newNode(t, server, c).emit("job1", "a", "b", "c")
	c.advance(limits.Age + 30*time.Second)
	b := newNode(t, server, c)
	p := b.read("job1", at[2], at[1])
	wantResumable(t, p, nil, nil)
	if texts(p) != "[a b c]" {
		t.Errorf("got %s", texts(p))
	}
	b.Joined([]string{"job1"})
	c.advance(limits.Age)
	b.tick()
	p = b.query(relay.HistoryQuery{Group: "job1", After: at[1:], Latest: 10})
	wantResumable(t, p, relay.NotRecoveredUnknown, nil)
	if len(p.Events) > 0 {
		t.Errorf("after the age of events, the new node has left %s", texts(p))
	}
}

// An event that comes after a newer one, from an emitter whose clock is behind, is not missed in silence.
func TestLateEvents(t *testing.T) {
	c := newClock()
	n := newNode(t, peers.StartRedis(t), c, withLimits(relay.HistoryLimits{Count: 3, Bytes: 1000, Age: time.Minute}))
	at := n.emit("job1", "a", "b")
	n.write(n.event("job1", "late", c.now().Add(-50*time.Millisecond)))
	p := n.read("job1", at[1])
	wantResumable(t, p, nil)
	if texts(p) != "[late a b]" {
		t.Errorf("within the slack: %s", texts(p))
	}
	last := n.emit("job1", "c", "d")
	n.tick() // removes the late event, which the client at b may lack, and a
	wantResumable(t, n.read("job1", at[1]), relay.NotRecoveredGap)
	// Other nodes may not have noted yet which events are late for their clients.
	wantResumable(t, n.read("job1", last[1]), relay.NotRecoveredGap)
	c.advance(5 * time.Second)
	last = n.emit("job1", "e", "f", "g", "h")
	n.tick()
	wantResumable(t, n.read("job1", last[0], last[3]), nil, nil)
	c.advance(5 * time.Second)
	newest := n.emit("job1", "i")[0]
	n.write(n.event("job1", "very late", c.now().Add(-4*time.Second)))
	wantResumable(t, n.read("job1", last[3], newest), nil, relay.NotRecoveredGap)

	// A message that another node had not read, and that is removed at once.
	c.advance(5 * time.Second)
	newest = n.emit("job1", "j")[0]
	n.emit("job1", "k", "l", "m")
	n.tick()
	if err := n.Add(context.Background(), 0, []relay.Event{n.event("job1", "o", c.now().Add(-time.Second))}); err != nil {
		t.Fatal(err)
	}
	wantResumable(t, n.read("job1", newest), relay.NotRecoveredGap)
}

func TestAdd(t *testing.T) {
	server, c := peers.StartRedis(t), newClock()
	a, b := newNode(t, server, c), newNode(t, server, c)
	var events []relay.Event
	for i := range 300 {
		c.advance(time.Millisecond)
		events = append(events, a.event(fmt.Sprint("job", i%150), fmt.Sprint(i)))
	}
	for range 2 {
		if err := a.Add(context.Background(), 0, events); err != nil {
			t.Fatal(err)
		}
	}
	p := b.read("job7", events[7].Position)
	wantResumable(t, p, nil)
	if texts(p) != "[7 157]" {
		t.Errorf("got %s", texts(p))
	}
	if n := a.HistoryStats().Recorded; n != 300 {
		t.Errorf("%d recorded", n)
	}
	// The events of a peer are stored by the next read at the latest.
	peer := events[7]
	peer.Source, peer.Text = relay.FromPeer, []byte("of a peer")
	peer.Position.Mark++
	a.Record([]relay.Event{peer, {Group: "job7", Source: relay.FromPeer}, {Group: "job7", Position: peer.Position}})
	if p := a.read("job7", peer.Position); texts(p) != "[7 of a peer 157]" && texts(p) != "[of a peer 7 157]" {
		t.Errorf("with a peer's event: %s", texts(p))
	}
}

// A peer's position that is no time, or from the future, spoils no other: later events come behind it for no client.
func TestPositionsOfPeersFromNoTime(t *testing.T) {
	c := newClock()
	n := newNode(t, peers.StartRedis(t), c)
	first := n.event("job1", "first")
	n.write(first)
	for _, micros := range []int64{math.MinInt64, -1, 0, c.now().Add(time.Hour).UnixMicro(), 1 << 53, math.MaxInt64} {
		events := []relay.Event{{
			Group: "job1", Text: []byte("wrong"), Source: relay.FromPeer, Position: relay.Position{Micros: micros, Mark: 1},
		}}
		n.Record(events)
		if !events[0].Position.IsZero() {
			t.Errorf("%d: the position is %+v", micros, events[0].Position)
		}
	}
	p := n.read("job1", first.Position)
	wantResumable(t, p, nil)
	if texts(p) != "[first]" || p.Head != first.Position {
		t.Errorf("got %s, head %+v", texts(p), p.Head)
	}
	if at := n.MarkGap(relay.Loss{Groups: []string{"job1"}}); at.Micros > c.now().Add(time.Second).UnixMicro() || at.Micros <= 0 {
		t.Errorf("the next gap is at %d", at.Micros)
	}
}

// A client with a position that no event has, later than all events, changes nothing for others: the head is the newest
// event, and no entry is written.
func TestHeadForUnknownPosition(t *testing.T) {
	c := newClock()
	n := newNode(t, peers.StartRedis(t), c)
	begin := n.read("job1", relay.Position{}).Head // an entry without an event
	c.advance(3 * time.Second)
	last := n.event("job1", "last")
	n.write(last)
	for _, later := range []time.Duration{3 * time.Second, time.Hour} {
		unknown := relay.Position{Micros: c.now().Add(later).UnixMicro(), Mark: 1}
		p := n.read("job1", unknown)
		wantResumable(t, p, relay.NotRecoveredUnknown)
		if p.Head != last.Position || len(p.Events) != 0 {
			t.Errorf("the head is %+v, want %+v, not %+v", p.Head, last.Position, begin)
		}
	}
}

func TestLargePages(t *testing.T) {
	c := newClock()
	server := peers.StartRedis(t)
	n := newNode(t, server, c, withLimits(relay.HistoryLimits{Count: 2000, Bytes: 1 << 20, Age: time.Hour}))
	var events []relay.Event
	for i := range 2000 {
		if i%3 == 0 { // Three of each microsecond.
			c.advance(time.Microsecond)
		}
		events = append(events, n.event("job1", fmt.Sprint(i)))
	}
	n.write(events...)
	for _, q := range []relay.HistoryQuery{
		{Group: "job1", Latest: 1500},
		{Group: "job1", After: []relay.Position{events[1].Position}},
		{Group: "job1", After: []relay.Position{events[1].Position}, Latest: 20},
	} {
		p := n.query(q)
		want := max(q.Latest, 2000*len(q.After))
		seen := map[relay.Position]bool{}
		for _, ev := range p.Events {
			seen[ev.Position] = true
		}
		if len(p.Events) != want || len(seen) != want {
			t.Errorf("%d events, %d positions, want %d", len(p.Events), len(seen), want)
		}
	}
	// More than the limits allow is not read.
	tight := newNode(t, server, c, withLimits(relay.HistoryLimits{Count: 1, Bytes: 1, Age: time.Hour}))
	n.emit("job1", strings.Repeat("x", 2<<20))
	wantResumable(t, tight.read("job1", events[1].Position), relay.NotRecoveredUnknown)
}

func TestInspect(t *testing.T) {
	c := newClock()
	n := newNode(t, peers.StartRedis(t), c)
	first := c.now().Add(time.Millisecond)
	n.emit("job1", "a", "b", "c")
	n.MarkGap(relay.Loss{Groups: []string{"job1"}})
	n.tick()
	info, err := n.InspectHistory(context.Background(), "job1")
	if err != nil || info.Events != 3 || info.Gaps != 1 || info.Bytes == 0 || !info.Oldest.Equal(first) ||
		!info.Newest.Equal(first.Add(2*time.Millisecond)) {
		t.Errorf("%+v, %v", info, err)
	}
}
