package backplane

import (
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// newVitalLink returns a link between relays that has been established at a time.
func newVitalLink(t *testing.T, b *Backplane, node string, dialed bool, at time.Time) *link {
	l := &link{
		b: b, dialect: EdgeRelay, dialed: dialed, queue: newQueue(1 << 20), began: at, ctx: t.Context(), out: &outbox{},
	}
	l.vitals.init(b.settings.Load())
	l.vitals.alive.Store(relay.Ticks(at))
	l.setPeer(message{Node: node, Layer: "elsewhere", Features: features()})
	l.vitals.delay.Store(0)
	l.out.lastProgress.Store(relay.Ticks(at))
	l.out.lastReceived.Store(relay.Ticks(at))
	return l
}

// receiveByte notes a received byte.
func (l *link) receiveByte(at int64) {
	l.out.lastProgress.Store(at)
	l.out.lastReceived.Store(at)
}

// A relay that owes an answer is asked after one second and counts as stalled after two, later if this process is busy,
// if answers take long, or after a false alarm. A node that is at work on a message has not looked.
func TestStallsInTime(t *testing.T) {
	b := newPlane(t)
	began := time.Now()
	start := relay.Ticks(began)
	for name, c := range map[string]struct {
		slack   time.Duration
		prepare func(l *link)
		asked   time.Duration // 0: never within a minute
		stalls  time.Duration
	}{
		"unanswered ping":     {0, func(l *link) { l.vitals.pinged.Store(start) }, time.Second, 2 * time.Second},
		"traffic has stopped": {0, func(l *link) { l.framesIn.Add(1) }, time.Second, 2 * time.Second},
		"nothing is owed":     {0, func(*link) {}, 0, 0},
		"busy process":        {2 * time.Second, func(l *link) { l.vitals.pinged.Store(start) }, 2 * time.Second, 4 * time.Second},
		"long round trips": {
			0, func(l *link) { l.vitals.pinged.Store(start); l.vitals.delay.Store(int64(time.Second)) }, 2 * time.Second, 4 * time.Second,
		},
		"very long round trips": {
			0, func(l *link) { l.vitals.pinged.Store(start); l.vitals.delay.Store(int64(time.Minute)) }, 4 * time.Second, 8 * time.Second,
		},
		"after a false alarm": {0, func(l *link) { l.vitals.pinged.Store(start); l.vitals.alarms = 1 }, 2 * time.Second, 4 * time.Second},
		"message in progress": {0, func(l *link) { l.vitals.pinged.Store(start); l.vitals.handling.Store(true) }, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			l := newVitalLink(t, b, "other", true, began)
			c.prepare(l)
			var asked, stalls time.Duration
			for at := time.Duration(0); at < 30*time.Second && stalls == 0; at += 250 * time.Millisecond {
				l.checkLife(start+int64(at), c.slack)
				if asked == 0 && l.vitals.health() == doubted {
					asked = at
				}
				if l.isStalled() {
					stalls = at
				}
			}
			if asked != c.asked || stalls != c.stalls {
				t.Errorf("asked after %v, stalled after %v; want %v, %v", asked, stalls, c.asked, c.stalls)
			}
		})
	}
}

// A stalled link of which bytes arrive works again, and is given twice the time; after a healthy minute, as much as
// before.
func TestFalseAlarmsMakePatient(t *testing.T) {
	b := newPlane(t)
	began := time.Now()
	now := relay.Ticks(began)
	l := newVitalLink(t, b, "other", true, began)
	l.vitals.pinged.Store(now)
	stallsAfter := func() (after time.Duration) {
		t.Helper()
		from := now
		for ; !l.isStalled(); now += int64(250 * time.Millisecond) {
			l.checkLife(now, 0)
			if after = time.Duration(now - from); after > time.Minute {
				t.Fatal("the link does not stall")
			}
		}
		return after
	}
	for i, want := range []time.Duration{2, 4, 8, 8} {
		if i > 0 {
			l.receiveByte(now)
			if !l.checkLife(now, 0) || l.isStalled() {
				t.Fatal("a link of which bytes arrive is stalled")
			}
		}
		if got := stallsAfter(); got != want*time.Second {
			t.Errorf("stall %d after %v, want %vs", i, got, int(want))
		}
	}
	for range 2 * 4 * 61 { // two minutes and more
		now += int64(250 * time.Millisecond)
		l.receiveByte(now)
		l.checkLife(now, 0)
	}
	if got := stallsAfter(); got != 2*time.Second {
		t.Errorf("stall after %v once the alarms are forgotten", got)
	}
}

// Another node of a layer takes over from a silent one only after it has lived for as long as that had time to answer:
// after an outage of this node's network, both return, one a moment before the other.
func TestSourceHasTimeToReturn(t *testing.T) {
	b := newPlane(t)
	began := time.Now()
	source, other := newVitalLink(t, b, "source", true, began), newVitalLink(t, b, "other", true, began)
	source.move(signalChosen)
	b.interest.mu.Lock()
	defer b.interest.mu.Unlock()
	b.interest.relays = map[*link]struct{}{source: {}, other: {}}
	ms := func(n int) int64 { return relay.Ticks(began.Add(time.Duration(n) * time.Millisecond)) }
	source.vitals.signal(signalDoubt, ms(1000))
	source.vitals.signal(signalSilence, ms(2000))
	other.vitals.signal(signalReplaced, ms(2000)) // the network of this node is down
	other.vitals.signal(signalLife, ms(20_000))
	for _, c := range []struct {
		at      int
		heard   int // the last byte of the other node
		sources int
	}{{20_000, 900, 0}, {20_100, 20_050, 0}, {21_400, 21_300, 0}, {21_500, 21_400, 1}} {
		other.receiveByte(ms(c.heard))
		b.replaceSilent(ms(c.at), false)
		if got := other.phase().isSource(); got != (c.sources == 1) || source.phase().isSource() == got {
			t.Errorf("after %d ms: the other node is the source: %v", c.at, got)
		}
	}
}

// Of two links to one node, both ends choose the same one, however healthy they are, as long as both see the same.
func TestBothEndsPreferTheSameLink(t *testing.T) {
	lower, upper := &Backplane{id: "a"}, &Backplane{id: "b"}
	began := time.Now()
	end := func(b *Backplane, dialed bool, h health) *link {
		l := &link{b: b, node: map[*Backplane]string{lower: "b", upper: "a"}[b], dialed: dialed, began: began}
		l.vitals.state.Store(int32(h))
		return l
	}
	for one := range healths {
		for two := range healths {
			// The first link is dialed by the lower node, the second by the upper one.
			atLower, _ := end(lower, true, one).preferred(end(lower, false, two))
			atUpper, _ := end(upper, false, one).preferred(end(upper, true, two))
			if atLower != atUpper {
				t.Errorf("%v and %v: the lower node keeps the first link: %v, the upper one: %v", one, two, atLower, atUpper)
			}
			if want := one != stalled || two == stalled; atLower != want {
				t.Errorf("%v and %v: the first link stays: %v", one, two, atLower)
			}
			turned, _ := end(lower, false, two).preferred(end(lower, true, one))
			if turned == atLower {
				t.Errorf("%v and %v: the order of links decides", one, two)
			}
		}
	}
	newer, older := end(upper, false, healthy), end(upper, false, healthy)
	newer.began = began.Add(time.Second)
	if _, undecided := newer.preferred(older); !undecided {
		t.Error("the dialed node decides between two links that the other has dialed")
	}
	newer.dialed, older.dialed = true, true
	if stays, undecided := newer.preferred(older); !stays || undecided {
		t.Error("the dialing node does not decide for its newer link")
	}
}

// A dialing node that has found a link silent says so, and the other side believes it, for links to that node alone.
func TestInsteadOfSilentLinks(t *testing.T) {
	for _, instead := range []bool{false, true} {
		b := newPlane(t)
		at := time.Now()
		before, next := newVitalLink(t, b, "other", false, at), newVitalLink(t, b, "other", false, at)
		third := newVitalLink(t, b, "third", false, at)
		b.interest.mu.Lock()
		b.interest.relays = map[*link]struct{}{before: {}, next: {}, third: {}}
		b.interest.mu.Unlock()
		next.compete(instead)
		if before.isStalled() != instead || next.isStalled() || third.isStalled() {
			t.Errorf("instead: %v; the link before is stalled: %v, the new one: %v, one to another node: %v",
				instead, before.isStalled(), next.isStalled(), third.isStalled())
		}
	}
}
