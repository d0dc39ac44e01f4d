package backplane

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// ackEvents and ackBytes bound the received events that are not acknowledged yet, and ackDelay their age.
	ackEvents, ackBytes = 256, 256 << 10
	ackDelay            = 250 * time.Millisecond
	// maxIncoming bounds the relays whose streams are remembered, and incomingAge the time without a link.
	maxIncoming = 1000
	incomingAge = 2 * resumeWait
)

// incoming is this node's place in the stream of a relay. It outlives the links. The reading goroutine of the link that
// is the source changes it.
type incoming struct {
	claimed   atomic.Uint64 // number of the last event that is being delivered, or was
	delivered atomic.Uint64 // number of the last delivered event

	mu     sync.Mutex // guards the fields below
	id     string     // of the stream; empty until it is known
	acked  uint64
	bytes  int    // received since the last acknowledgment
	timing bool   // a timer will acknowledge
	link   *link  // the link of the last batch
	losses uint64 // number of the last report of losses
	links  int
	unused time.Time // since when there is no link
}

// incomingOf returns this node's place in the stream of a relay, for a link.
func (b *Backplane) incomingOf(node string) *incoming {
	b.mu.Lock()
	defer b.mu.Unlock()
	in := b.incoming[node]
	if in == nil {
		for other, o := range b.incoming {
			o.mu.Lock()
			if o.links == 0 && time.Since(o.unused) > incomingAge {
				delete(b.incoming, other)
			}
			o.mu.Unlock()
		}
		in = &incoming{}
		if len(b.incoming) < maxIncoming {
			b.incoming[node] = in
		}
	}
	in.mu.Lock()
	in.links++
	in.mu.Unlock()
	return in
}

// release records the end of a link.
func (in *incoming) release() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.links--
	in.unused = time.Now()
}

// place returns the stream's id, and the numbers of the last event and of the last report of losses that this node has.
func (in *incoming) place() (id string, last, losses uint64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.id, in.claimed.Load(), in.losses
}

// forget makes this node ask for no more than live events: another node has become the source.
func (in *incoming) forget() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.id = ""
}

// begin records that the events from the number first on follow. It reports whether they continue a stream that this
// node knows.
func (in *incoming) begin(id string, first uint64) (continued bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	continued = in.id == id
	if !continued {
		in.id, in.acked, in.losses = id, 0, 0
		in.claimed.Store(0)
		in.delivered.Store(0)
	}
	in.pass(first - 1)
	return continued
}

// pass records that the events up to a number arrived, or never will. in.mu is held, or no other link is a source.
func (in *incoming) pass(number uint64) {
	in.claimed.Store(max(in.claimed.Load(), number))
	in.delivered.Store(max(in.delivered.Load(), number))
}

// receiveNumbered delivers a batch of a stream, without the events that this node has.
func (l *link) receiveNumbered(b []byte) {
	in := l.in
	before := in.claimed.Load()
	batch, ok := l.decodeBatch(b, before)
	switch {
	case !ok: // the numbers of the next batch show no other loss
		l.tooLarge.Store(true)
		l.b.hub.Lost(relay.Loss{Cause: relay.LossPeer, All: true})
		return
	case !l.phase().isSource(): // another node is the source of this layer, or the layer is our own
		l.b.stats.drop(faultSource, len(batch.events))
		return
	case batch.skipped > 0:
		l.b.stats.drop(faultDouble, batch.skipped)
	}
	if tooLarge := l.tooLarge.Swap(false); batch.first > before+1 && !tooLarge {
		l.jumped.Store(true)
	}
	in.claimed.Store(max(before, batch.last))
	if batch.unread > 0 {
		l.b.hub.Lost(relay.Loss{Cause: relay.LossPeer, All: true, Events: batch.unread})
	}
	if r := l.recent.Load(); r != nil {
		var doubles int
		if batch.events, doubles = r.admit(batch.events, batch.refills); doubles > 0 {
			l.b.stats.drop(faultDouble, doubles)
		}
	}
	if len(batch.events) > 0 {
		l.b.deliver(l, batch.events)
	}
	in.mu.Lock()
	in.pass(batch.last)
	in.mu.Unlock()
	l.acknowledge(len(b))
	if l.catchingUp.Load() {
		l.checkGap()
	}
}

// decodeBatch reads a batch of the peer's stream without the events up to the number after.
func (l *link) decodeBatch(b []byte, after uint64) (batch numberedBatch, ok bool) {
	if !l.timed {
		return decodeNumbered(b, after, l.fault)
	}
	_, batch, ok = decodeTimed(b, after, l.b.settings.Load().FrameSize, l.fault)
	return batch, ok
}

// reportTooLarge reports a skipped message, whose events nothing is known about.
func (l *link) reportTooLarge() {
	if l.resumes && l.phase().isSource() {
		l.tooLarge.Store(true)
		l.b.hub.Lost(relay.Loss{Cause: relay.LossPeer, All: true})
	}
}

// beginStream handles the peer's announcement of the events that follow.
func (l *link) beginStream(m message) {
	if m.First == 0 || m.Stream == "" || len(m.Stream) > maxIdentity {
		l.fault(faultBroken)
		return
	}
	_, last, _ := l.in.place()
	continued := l.in.begin(m.Stream, m.First)
	if continued && m.First > last+1 {
		l.jumped.Store(true)
	}
	i := &l.b.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	p := &l.peer
	p.announced, p.until = true, m.Until
	if continued {
		clear(p.refilling)
	}
	for source, g := range i.gaps {
		if source == p.layer || g.node == l.node {
			g.lossy = g.lossy || !continued
		}
	}
	l.closeGaps()
}

// acknowledge acknowledges delivered events now and then.
func (l *link) acknowledge(bytes int) {
	in := l.in
	in.mu.Lock()
	defer in.mu.Unlock()
	in.link = l
	in.bytes += bytes
	if in.delivered.Load() >= in.acked+ackEvents || in.bytes >= ackBytes {
		l.sendAck()
		return
	}
	if !in.timing {
		in.timing = true
		time.AfterFunc(ackDelay, func() {
			in.mu.Lock()
			defer in.mu.Unlock()
			in.timing = false
			if in.delivered.Load() > in.acked {
				in.link.sendAck()
			}
		})
	}
}

// acknowledgeLoss acknowledges a report of losses.
func (l *link) acknowledgeLoss(number uint64) {
	if l.in == nil || number == 0 {
		return
	}
	l.in.mu.Lock()
	defer l.in.mu.Unlock()
	l.in.losses = number
	l.sendAck()
}

// sendAck sends the number of the last delivered event. in.mu is held.
func (l *link) sendAck() {
	if l.phase() == phaseEnded {
		return
	}
	l.in.acked, l.in.bytes = l.in.delivered.Load(), 0
	l.sendMessage(message{Type: "ack", Seq: l.in.acked, Loss: l.in.losses})
}
