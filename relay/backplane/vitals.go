package backplane

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/internal/tcptuning"
	"github.com/edgerelay/edgerelay/relay"
)

const (
	// patienceMax is the time without a sign of life after which a relay that should have answered counts as stalled. With
	// a Silence below 8 s it is a quarter of that.
	patienceMax = 2 * time.Second
	// Each time that a link recovers after it has stalled doubles the patience with it, alarmsMax times, until it was
	// healthy for alarmMemory.
	alarmsMax   = 2
	alarmMemory = time.Minute
	// answersPerPatience is the patience as a multiple of the time that the last answer took, four times patienceMax at
	// most.
	answersPerPatience = 4
	// replaceWait is the time that a source has to answer, beside a living link to another node of its layer.
	replaceWait = 1500 * time.Millisecond
	// swallowedAfter is the number of transmissions of the same bytes after which the network counts as swallowing them.
	// On a quick network they take 1.4 s, and chance alone does not lose as many in a row.
	swallowedAfter = 3
)

// health is the state of the relay at the other end of a link, as far as this node can tell. It is independent of the
// link's phase.
type health int32

const (
	// healthy: the relay has answered, or did not have to.
	healthy health = iota
	// doubted: the relay was asked out of turn, since it is silent or another link may take the place of this one.
	doubted
	// stalled: nothing has arrived although the relay should have answered. The link still stands, since the network may
	// return; the dialing side dials beside it, and any other link is better.
	stalled

	healths // the number of states
)

var healthNames = [healths]string{"healthy", "doubted", "stalled"}

// String names the state in test failures.
func (h health) String() string {
	if h < 0 || h >= healths {
		return fmt.Sprintf("health %d", int32(h))
	}
	return healthNames[h]
}

// healthSignal moves a link from one state to the next.
type healthSignal uint8

const (
	// signalDoubt: the relay is asked out of turn.
	signalDoubt healthSignal = iota
	// signalSilence: the relay did not answer in time.
	signalSilence
	// signalLife: something arrived, or the relay has taken bytes.
	signalLife
	// signalReplaced: the relay says that another link takes the place of this one.
	signalReplaced
	// signalSwallowed: the network does not deliver this node's packets, whatever arrives from the relay.
	signalSwallowed

	healthSignals // the number of signals
)

// next returns the state that follows h on a signal.
func (h health) next(s healthSignal) health {
	switch {
	case s == signalReplaced || s == signalSwallowed:
		return stalled
	case s == signalLife:
		return healthy
	case s == signalDoubt && h == healthy:
		return doubted
	case s == signalSilence && h == doubted:
		return stalled
	}
	return h
}

// vitals are the signs of life of a link. Times are relay.Ticks. The watching goroutine changes the states, except for
// signalDoubt and signalReplaced, which any goroutine may give.
type vitals struct {
	state    atomic.Int32 // a health
	asked    atomic.Int64 // when the relay was asked out of turn
	stalled  atomic.Int64 // when it was found to be stalled
	alive    atomic.Int64 // since when it gives signs of life
	pinged   atomic.Int64 // when the unanswered ping was sent, 0 if there is none
	handling atomic.Bool  // this node works on a message, and so does not read
	pingNow  chan struct{}
	patience time.Duration
	delay    atomic.Int64 // of the last answer, in nanoseconds

	mu       sync.Mutex    // guards the fields below
	trouble  chan struct{} // closed while the link is stalled
	troubled bool          // trouble is closed

	// These fields are owned by the watching goroutine: the number of received frames at the last ping, and the number of
	// times that the link has stalled and recovered lately.
	frames uint64
	alarms int
	// swallowed is set if the link has stalled on signalSwallowed: then received bytes are no sign that it works.
	swallowed bool
}

func (v *vitals) init(s *Settings) {
	v.pingNow = make(chan struct{}, 1)
	v.patience = min(patienceMax, s.Silence/4)
	v.alive.Store(relay.Ticks(time.Now()))
}

// health returns the current state.
func (v *vitals) health() health { return health(v.state.Load()) }

// signal applies a signal, and reports whether the state has changed.
func (v *vitals) signal(s healthSignal, now int64) bool {
	for {
		before := v.health()
		after := before.next(s)
		if before == after {
			return false
		}
		switch after { // before the state, which makes the times valid
		case healthy:
			v.alive.Store(now)
		case doubted:
			v.asked.Store(now)
		case stalled:
			v.stalled.Store(now)
		}
		if v.state.CompareAndSwap(int32(before), int32(after)) {
			if before == stalled || after == stalled {
				v.updateTrouble()
			}
			return true
		}
	}
}

// updateTrouble makes the channel of untilStalled follow the state, whatever signals came at the same time.
func (v *vitals) updateTrouble() {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch is := v.health() == stalled; {
	case is && !v.troubled:
		if v.trouble == nil {
			v.trouble = make(chan struct{})
		}
		close(v.trouble)
		v.troubled = true
	case !is && v.troubled:
		v.trouble, v.troubled = make(chan struct{}), false
	}
}

// untilStalled returns a channel that is closed when the link stalls, or is stalled.
func (v *vitals) untilStalled() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.trouble == nil {
		v.trouble = make(chan struct{})
	}
	return v.trouble
}

// doubt asks the relay for a sign of life out of turn.
func (l *link) doubt(now int64) {
	if l.vitals.signal(signalDoubt, now) {
		l.ping()
	}
}

// ping makes pingLoop ping now, unless a ping is unanswered.
func (l *link) ping() {
	select {
	case l.vitals.pingNow <- struct{}{}:
	default:
	}
}

// isStalled reports whether the relay gives no sign of life although it should.
func (l *link) isStalled() bool { return l.vitals.health() == stalled }

// lastLife is the time of the last sign of life: received bytes, or bytes that the peer took.
func (l *link) lastLife(now int64) int64 {
	if l.vitals.handling.Load() { // more may have arrived, and this node has not read it yet
		return now
	}
	return l.out.lastProgress.Load()
}

// expectsLife reports whether the relay should give a sign of life soon: it was pinged, or has not acknowledged events,
// or it has stopped in the middle of traffic.
func (l *link) expectsLife() bool {
	if l.vitals.pinged.Load() != 0 || l.framesIn.Load() != l.vitals.frames {
		return true
	}
	s := l.stream.Load()
	return s != nil && s.has(l) && s.queue.awaitsAck()
}

// isSwallowed reports whether the kernel has sent the same bytes swallowedAfter times without an acknowledgment. Only
// the dialing side looks at that, since it is the one to dial again; it would not notice by itself if the relay goes on
// sending.
func (l *link) isSwallowed() bool {
	if l.socket == nil {
		return false
	}
	if s := l.stream.Load(); l.vitals.pinged.Load() == 0 && (s == nil || !s.has(l) || !s.queue.awaitsAck()) {
		return false
	}
	return tcptuning.Retransmits(l.socket) >= swallowedAfter
}

// checkLife updates the health of a link between relays. It reports whether the link has stalled or has recovered.
// slack is added to the patience.
func (l *link) checkLife(now int64, slack time.Duration) (changed bool) {
	v, life := &l.vitals, l.lastLife(now)
	patience := int64(max(v.patience<<v.alarms, min(answersPerPatience*time.Duration(v.delay.Load()), 4*v.patience)) + slack)
	half := patience / 2
	if v.health() != stalled && l.isSwallowed() {
		v.swallowed = true
		return v.signal(signalSwallowed, now)
	}
	switch v.health() {
	case healthy:
		if v.alarms > 0 && now-v.alive.Load() > int64(alarmMemory) {
			v.alarms = 0
		}
		if now-life >= half && l.expectsLife() {
			v.frames = l.framesIn.Load()
			l.doubt(now)
		}
	case doubted:
		switch asked := v.asked.Load(); {
		case life >= asked:
			v.signal(signalLife, now)
		case now-asked >= half && now-life >= patience:
			return v.signal(signalSilence, now)
		}
	case stalled:
		if l.out.lastReceived.Load() > v.stalled.Load() && (!v.swallowed || !l.isSwallowed()) {
			v.swallowed = false
			v.alarms = min(v.alarms+1, alarmsMax)
			return v.signal(signalLife, now)
		}
	}
	return false
}
