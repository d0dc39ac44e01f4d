package backplane

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// A Python node does not announce which Redis it uses. If it is our Redis, the peer's events have already reached
// us through the layer, and our events would return. So each link to a Python node begins with a probe: a message
// to a group that only this link knows. The verdict depends on whether the probe arrives.

// heldBytes bounds the events of a peer that are held until the verdict.
const heldBytes = 8 << 20

// verdict decides whether a Python node is on the same channel layer as this node.
type verdict struct {
	probe string        // the group of the probe
	seen  chan struct{} // closed when the probe arrives
	once  sync.Once

	mu    sync.Mutex // also held while the verdict changes the phase
	held  []relay.Event
	bytes int
}

// startProbing begins a link to a Python node.
// See docs/decisions/backplane.md#how-are-python-nodes-on-the-same-redis-detected
func (l *link) startProbing() {
	l.verdict.probe = ownPrefix + "probe." + rand.Text()
	l.verdict.seen = make(chan struct{})
	l.move(signalPython)
}

// markSeen records the arrival of the probe.
func (v *verdict) markSeen() { v.once.Do(func() { close(v.seen) }) }

// receiveEvent handles an event of a Python node. The event is held until the verdict, delivered, or dropped
// because it arrives through the layer as well.
func (l *link) receiveEvent(ev relay.Event) {
	v := &l.verdict
	if strings.HasPrefix(ev.Group, ownPrefix) { // our probe or another node's
		if ev.Group == v.probe {
			v.markSeen()
		}
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch l.phase() {
	case phaseSameLayer:
		l.b.stats.drop(faultSameLayer, 1)
	case phaseSeparate:
		l.b.deliver(l, []relay.Event{ev})
	case phaseProbing:
		v.held = append(v.held, ev)
		v.bytes += heldCost(ev)
		for v.bytes > heldBytes && len(v.held) > 1 {
			lost := v.held[0]
			v.bytes -= heldCost(lost)
			v.held[0] = relay.Event{}
			v.held = v.held[1:]
			l.dropped.Add(1)
			l.b.stats.drop(faultQueue, 1)
			l.b.hub.Lost(relay.Loss{Cause: relay.LossPeerLink, Groups: []string{lost.Group}, Events: 1})
		}
	}
}

// heldCost is the weight of a held event, in bytes.
func heldCost(ev relay.Event) int { return len(ev.Group) + len(ev.Text) + 128 }

// decide applies a verdict, signalSeparate or signalSameLayer. A link that has ended meanwhile has no verdict.
func (l *link) decide(s signal) {
	v := &l.verdict
	v.mu.Lock()
	defer v.mu.Unlock()
	held := v.held
	v.held, v.bytes = nil, 0
	before := l.move(s)
	now := l.phase()
	switch {
	case before == phaseEnded || now == phaseEnded:
		return
	case now == phaseSameLayer:
		l.b.stats.drop(faultSameLayer, len(held))
		if before != phaseSameLayer {
			l.b.log.Info("peer shares the channel layer", "peer", l.String())
		}
	case len(held) > 0:
		l.b.deliver(l, held)
	}
	l.b.mu.Lock()
	if l.b.dialers[l.url] != nil { // forget the verdicts on targets that no discovery reports
		l.b.sameLayer[l.url] = now == phaseSameLayer
	}
	l.b.mu.Unlock()
}

// listenProbe watches for the probe in our layer.
func (l *link) listenProbe() (stop func()) {
	ctx, cancel := context.WithTimeout(l.ctx, layerWait)
	defer cancel()
	return l.b.hub.Listen(ctx, l.verdict.probe, func(ev relay.Event) {
		if ev.Source == relay.FromLayer {
			l.verdict.markSeen()
		}
	})
}

// runProbe reaches the verdict. ask sends the probe and may find the answer itself. onVerdict is called after each
// verdict. A node that was on another layer during its last link is not held up.
func (l *link) runProbe(ask func(ctx context.Context) (same bool, err error), onVerdict func()) {
	conclude := func(s signal) {
		l.decide(s)
		onVerdict()
	}
	l.b.mu.Lock()
	same, known := l.b.sameLayer[l.url]
	l.b.mu.Unlock()
	early := known && !same
	if early {
		conclude(signalSeparate)
	}
	limit := l.b.settings.Load().ProbeWait
	var waited time.Duration
	for step := limit / 32; waited < limit; {
		same, err := l.sendProbe(ask)
		if same {
			l.verdict.markSeen()
		}
		if err == nil { // the limit does not run while the layer is unreachable
			waited += step
		}
		timer := time.NewTimer(step)
		select {
		case <-l.verdict.seen:
			timer.Stop()
			conclude(signalSameLayer)
			return
		case <-l.ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		step = min(2*step, limit/4)
	}
	if !early {
		conclude(signalSeparate)
	}
	late := time.NewTimer(10 * limit)
	defer late.Stop()
	select {
	case <-l.verdict.seen:
		conclude(signalSameLayer)
	case <-late.C:
	case <-l.ctx.Done():
	}
}

func (l *link) sendProbe(ask func(ctx context.Context) (bool, error)) (bool, error) {
	broker := l.b.hub.Broker()
	if broker == nil || !broker.Health().OK {
		return false, relay.ErrClosed
	}
	ctx, cancel := context.WithTimeout(l.ctx, layerWait)
	defer cancel()
	return ask(ctx)
}

// publish publishes a text to a group of our layer without marking it.
func (b *Backplane) publish(ctx context.Context, group string, text []byte) (relay.Receipt, error) {
	broker := b.hub.Broker()
	if broker == nil {
		return relay.Receipt{}, relay.ErrClosed
	}
	return broker.Publish(ctx, group, text)
}
