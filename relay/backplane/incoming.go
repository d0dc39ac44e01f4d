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
	incomingAge = 2 * streamWait
)

// incoming is this node's place in the stream of a relay. It outlives the links. Only the link that was asked last for
// the stream changes it: what arrives late over another link, comes again over this one.
type incoming struct {
	claimed   atomic.Uint64 // number of the last event that is being delivered, or was
	delivered atomic.Uint64 // number of the last delivered event
	clock     clock         // of the relay
	lateness  lateness      // of the events

	// reading is held while a message of the stream is received, so that events of two links keep their order. A hub may
	// wait for other locks meanwhile: no code may lock it with interest.mu held.
	reading sync.Mutex

	mu     sync.Mutex // guards the fields below
	asked  *link      // that was asked last for the stream
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

// ask makes a link the only one that may continue the stream. It returns the stream's id, and the numbers of the last
// event and of the last report of losses that this node has. From here on, nothing else arrives over other links.
func (in *incoming) ask(l *link) (id string, last, losses uint64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.asked = l
	return in.id, in.claimed.Load(), in.losses
}

// claim records that the events up to a number are being delivered. It returns false if the stream has moved to another
// link. in.reading is held.
func (in *incoming) claim(l *link, number uint64) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.asked != l {
		return false
	}
	in.claimed.Store(max(in.claimed.Load(), number))
	return true
}

// forget makes this node ask for no more than live events: another node has become the source.
func (in *incoming) forget() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.id, in.asked = "", nil
}

// begin records that the events from the number first on follow over a link. It reports whether they continue a stream
// that this node knows, and whether numbers are missing. It returns false if the stream has moved to another link.
// in.reading is held.
func (in *incoming) begin(l *link, id string, first uint64) (continued, jumped, ok bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.asked != l {
		return false, false, false
	}
	continued = in.id == id
	jumped = continued && first > in.claimed.Load()+1
	if !continued {
		in.id, in.acked, in.losses = id, 0, 0
		in.claimed.Store(0)
		in.delivered.Store(0)
	}
	in.pass(first - 1)
	return continued, jumped, true
}

// pass records that the events up to a number arrived, or never will. in.mu is held.
func (in *incoming) pass(number uint64) {
	in.claimed.Store(max(in.claimed.Load(), number))
	in.delivered.Store(max(in.delivered.Load(), number))
}

// receiveNumbered delivers a batch of a stream, without the events that this node has.
func (l *link) receiveNumbered(b []byte) {
	in := l.in
	in.reading.Lock()
	defer in.reading.Unlock()
	before := in.claimed.Load()
	head, batch, ok := l.decodeBatch(b, before)
	switch {
	case !ok: // the numbers of the next batch show no other loss
		l.tooLarge.Store(true)
		l.b.hub.Lost(relay.Loss{Cause: relay.LossPeer, All: true})
		return
	case l.phase() == phaseRetired: // they arrive over another link
		return
	case !l.phase().isSource() || !in.claim(l, batch.last):
		// Another link or node is the source of this layer, or the layer is our own.
		l.b.stats.drop(faultSource, len(batch.events))
		return
	case batch.skipped > 0:
		l.b.stats.drop(faultDouble, batch.skipped)
	}
	if tooLarge := l.tooLarge.Swap(false); batch.first > before+1 && !tooLarge {
		l.jumped.Store(true)
		if r := l.recent.Load(); r != nil {
			r.noteHoles(nil)
		}
	}
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
		if l.timed {
			l.observeLag(head, &batch)
		}
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
func (l *link) decodeBatch(b []byte, after uint64) (head timedHead, batch numberedBatch, ok bool) {
	if l.timed {
		return decodeTimed(b, after, l.b.settings.Load().FrameSize, l.fault)
	}
	batch, ok = decodeNumbered(b, after, l.fault)
	return head, batch, ok
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
	l.in.reading.Lock()
	continued, jumped, ok := l.in.begin(l, m.Stream, m.First)
	l.in.reading.Unlock()
	if !ok {
		return
	}
	r := l.recent.Load()
	if jumped {
		l.jumped.Store(true)
		if r != nil {
			r.noteHoles(nil)
		}
	}
	i := &l.b.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	p := &l.peer
	p.announced, p.until, p.continued = true, m.Until, continued
	if continued {
		clear(p.refilling)
		if r != nil && l.refetches {
			l.expectFetched(r, m.Groups)
		}
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

// acknowledgeLoss acknowledges a report of losses, and reports whether it is new. A report without a number always is.
func (l *link) acknowledgeLoss(number uint64) (fresh bool) {
	if l.in == nil || number == 0 {
		return true
	}
	l.in.mu.Lock()
	defer l.in.mu.Unlock()
	if l.in.asked != l { // It comes again over the link that was asked.
		return false
	}
	fresh = number > l.in.losses
	l.in.losses = max(l.in.losses, number)
	l.sendAck()
	return fresh
}

// sendAck sends the number of the last delivered event. in.mu is held.
func (l *link) sendAck() {
	if l.phase() == phaseEnded {
		return
	}
	l.in.acked, l.in.bytes = l.in.delivered.Load(), 0
	l.sendMessage(message{Type: "ack", Seq: l.in.acked, Loss: l.in.losses})
}
