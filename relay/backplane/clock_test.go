package backplane

import (
	"math/rand/v2"
	"testing"
	"time"
)

// machine is a computer with a steady clock and a wall clock, both in microseconds of true time.
type machine struct {
	start int64   // true time at which the steady clock was 0
	speed float64 // of the steady clock
	wall  int64   // wall clock minus true time
}

func (m *machine) steady(at int64) int64 { return int64(float64(at-m.start) * m.speed) }
func (m *machine) base(at int64) int64   { return at + m.wall - m.steady(at) }

// exchange asks a peer at a true time. The question and the answer travel for some time each.
func exchange(c *clock, own, peer *machine, at, out, back int64) (received int64) {
	received = at + out + back
	c.add(clockSample{
		asked: own.steady(at), arrived: peer.steady(at + out), answered: peer.steady(at + out),
		received: own.steady(received), wallBase: peer.base(at + out),
	})
	return received
}

// checkClock compares the clock with the truth at a time, and returns the bound of the error.
func checkClock(t *testing.T, c *clock, own, peer *machine, at int64) (within int64) {
	t.Helper()
	now := own.steady(at)
	ahead, within, known := c.offset(now)
	if want := peer.steady(at) - now; !known || ahead < want-within || ahead > want+within {
		t.Fatalf("the peer is %d µs ahead within %d (known: %v), and in truth %d", ahead, within, known, want)
	}
	return within
}

func TestClockOffsetIsWithinItsBound(t *testing.T) {
	const second = int64(1e6)
	n := 0
	for name, test := range map[string]struct {
		out, back func() int64 // how long a message travels
		most      int64        // microseconds of the bound, after 20 questions
	}{
		"steady network":     {func() int64 { return 200 }, func() int64 { return 200 }, 201},
		"asymmetric network": {func() int64 { return 90_000 }, func() int64 { return 10_000 }, 50_001},
		"queues in one direction": {
			func() int64 { return 1000 + rand.Int64N(7*second) }, func() int64 { return 1000 }, 3_600_000,
		},
		"seldom a free network": {
			func() int64 { n++; return 500 + int64(n%3)*second }, func() int64 { return 500 + int64(n%4)*second }, 30_000,
		},
	} {
		t.Run(name, func(t *testing.T) {
			own, peer := &machine{start: -500 * second, speed: 1}, &machine{start: -7 * second, speed: 1.00004, wall: 3 * second}
			var c clock
			if _, _, known := c.offset(0); known {
				t.Fatal("an offset without a sample")
			}
			within, at := int64(0), int64(0)
			for range 20 {
				at = exchange(&c, own, peer, at+10*second, test.out(), test.back())
				within = checkClock(t, &c, own, peer, at)
				checkClock(t, &c, own, peer, at+9*second) // the bound grows by the drift
			}
			if within > test.most {
				t.Errorf("the bound is %d µs, want at most %d", within, test.most)
			}
		})
	}
}

// A wall clock that is set changes the lag of the clock by as much, and no time of travel.
func TestClockThatIsSet(t *testing.T) {
	const second = int64(1e6)
	own, peer := &machine{start: -50 * second, speed: 1}, &machine{start: -7 * second, speed: 1}
	var c clock
	at := exchange(&c, own, peer, 0, 100, 100)
	lag := func() int64 {
		ahead, _, _ := c.offset(own.steady(at))
		return own.base(at) - c.wallBase - ahead
	}
	if got := lag(); got < -101 || got > 101 {
		t.Errorf("the peer's clock is %d µs behind, want 0", got)
	}
	own.wall = 5 * second // set forward
	if got := lag(); got < 5*second-101 || got > 5*second+101 {
		t.Errorf("the peer's clock is %d µs behind, want 5 s", got)
	}
	peer.wall = -2 * second // set back
	sent := peer.steady(at)
	at = exchange(&c, own, peer, at+second, 100, 100)
	if got := lag(); got < 7*second-101 || got > 7*second+101 {
		t.Errorf("the peer's clock is %d µs behind, want 7 s", got)
	}
	ahead, _, _ := c.offset(own.steady(at))
	if traveled := own.steady(at) - (sent - ahead); traveled < second-1000 || traveled > second+1000 {
		t.Errorf("%d µs since a time of the peer, want 1 s", traveled)
	}
}

// A machine that slept has a steady clock with another offset: the next question corrects it.
func TestClockOfASleeper(t *testing.T) {
	const second = int64(1e6)
	own, peer := &machine{speed: 1}, &machine{speed: 1}
	var c clock
	at := exchange(&c, own, peer, 0, 100, 100)
	checkClock(t, &c, own, peer, at)
	peer.start += 600 * second
	at = exchange(&c, own, peer, at+second, 300, 200)
	if within := checkClock(t, &c, own, peer, at); within > 251 {
		t.Errorf("the bound is %d µs, want that of the last question", within)
	}
}

func TestImpossibleSamplesAreIgnored(t *testing.T) {
	for name, s := range map[string]clockSample{
		"answered before it arrived":    {asked: 0, received: 100, arrived: 60, answered: 50},
		"received before it was asked":  {asked: 100, received: 50},
		"the peer took longer than all": {asked: 0, received: 100, arrived: 0, answered: 200},
	} {
		var c clock
		c.add(s)
		if _, _, known := c.offset(0); known {
			t.Errorf("%s: the sample counts", name)
		}
	}
}

// A node that is asked answers with its own clocks, and an answer counts.
func TestClockMessages(t *testing.T) {
	asking, asked := newTestLink(t), newTestLink(t)
	asking.timed, asked.timed = true, true
	asking.in = asking.b.incomingOf("peer")
	asking.b.links[asking] = struct{}{}
	now := time.Now()
	asked.receiveClock(message{Type: "clock", Asked: steadyMicros(now) + 1}, now)
	answer := lastMessage(t, asked)
	if answer.WallBase == 0 || answer.Asked != steadyMicros(now)+1 || answer.Arrived != steadyMicros(now) {
		t.Fatalf("answered %+v", answer)
	}
	asking.skew = 7 * time.Second // of the handshake: delay of the network
	asking.b.stats.skew.Store(int64(asking.skew))
	if lag, within := asking.clockBehind(now); lag != 7*time.Second || within != 0 {
		t.Errorf("the peer is %v behind within %v before an answer", lag, within)
	}
	answer.Asked = steadyMicros(now)
	asking.receiveClock(answer, now.Add(10*time.Millisecond))
	lag, within := asking.clockBehind(now.Add(10 * time.Millisecond))
	if lag.Abs() > within || within > 10*time.Millisecond || within == 0 {
		t.Errorf("the peer is %v behind within %v, and in truth 0", lag, within)
	}
	if skew := asking.b.Stats().ClockSkew; skew.Abs() > within+time.Millisecond {
		t.Errorf("the handshake's lag of %v still counts", skew)
	}
	asking.receiveClock(message{Type: "clock", WallBase: 1 << 62}, now)
	if asking.faults.Load() != 1 {
		t.Error("an absurd time is taken")
	}
}
