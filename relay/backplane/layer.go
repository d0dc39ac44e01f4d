package backplane

import (
	"context"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// layerEvery is the time between reads of the layer's identity. A wiped Redis has a new identity.
	layerEvery = 15 * time.Second
	// layerWait bounds one read.
	layerWait = 2 * time.Second
)

// layer is the identity of this node's channel layer, empty until it is known. No code may call the hub while mu is
// held.
type layer struct {
	reading sync.Mutex // held during a read

	mu      sync.Mutex
	broker  relay.Broker
	id      string
	failing bool
}

func (b *Backplane) ownLayer() string {
	b.layer.mu.Lock()
	defer b.layer.mu.Unlock()
	return b.layer.id
}

// readLayer reads the identity and announces a change to relays. While the layer is unreachable, the identity
// stays.
// See docs/decisions/backplane.md#why-is-the-layers-identity-a-random-text-in-redis
func (b *Backplane) readLayer(ctx context.Context) {
	b.layer.reading.Lock()
	defer b.layer.reading.Unlock()
	broker := b.hub.Broker()
	if broker == nil {
		return
	}
	id := "node-" + b.id
	if asked, ok := broker.(relay.LayerIdentifier); ok {
		ctx, cancel := context.WithTimeout(ctx, layerWait)
		defer cancel()
		var err error
		if id, err = asked.LayerID(ctx); err != nil {
			b.layer.mu.Lock()
			first, known := !b.layer.failing, b.layer.id != ""
			b.layer.failing = true
			b.layer.mu.Unlock()
			if first {
				b.log.Warn("layer identity unreadable", "error", err, "remedy", unreadableRemedy(known))
			}
			return
		}
	}
	b.layer.mu.Lock()
	moved := b.layer.broker != nil && b.layer.broker != broker
	changed := b.layer.id != id
	b.layer.broker, b.layer.id, b.layer.failing = broker, id, false
	b.layer.mu.Unlock()
	if changed {
		b.announceLayer(id)
		b.chooseSources()
	}
	if moved { // the verdicts on Python nodes concern the old layer
		for _, l := range b.allLinks() {
			if l.dialect != EdgeRelay {
				l.end(errMoved)
			}
		}
	}
}

// unreadableRemedy tells what to do about an identity that cannot be read. known is set if it was read before.
func unreadableRemedy(known bool) string {
	if known {
		return "check the channel layer; until it can be read again, the identity known from before counts"
	}
	return "allow keys edgerelay:*; relays exchange no events until the identity is known"
}

// Refresh reads the identity at once if the hub has a new channel layer. Without Refresh, this takes a second.
func (b *Backplane) Refresh(ctx context.Context) {
	broker := b.hub.Broker()
	b.layer.mu.Lock()
	moved := b.layer.broker != broker
	b.layer.mu.Unlock()
	if moved {
		b.readLayer(ctx)
	}
}

// watchLayer reads the identity when the broker changes, and every layerEvery.
func (b *Backplane) watchLayer() {
	read := time.Now()
	for sleep(b.ctx, time.Second) {
		broker := b.hub.Broker()
		b.layer.mu.Lock()
		due := b.layer.id == "" || b.layer.broker != broker
		b.layer.mu.Unlock()
		if due || time.Since(read) >= layerEvery {
			b.readLayer(b.ctx)
			read = time.Now()
		}
	}
}

// announceLayer sends the identity to all relays.
func (b *Backplane) announceLayer(id string) {
	i := &b.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	for l := range i.relays {
		l.sendMessage(message{Type: "layer", Layer: id})
	}
}

// setPeerLayer records the identity of a relay's layer. If both nodes had the same layer, this node's may have
// changed as well.
func (l *link) setPeerLayer(id string) {
	i := &l.b.interest
	i.mu.Lock()
	before := l.peer.layer
	l.peer.layer = id
	for other := range i.relays { // one node has one layer
		if other.node == l.node {
			other.peer.layer = id
		}
	}
	i.mu.Unlock()
	if own := l.b.ownLayer(); own == "" || id != before && (own == before || own == id) {
		l.b.readLayer(l.ctx)
	}
	l.b.chooseSources()
}

// chooseSources picks one source for each foreign layer: the link whose peer sends this node the layer's events. A
// choice holds as long as the link. A link that the dialing side may still close is no candidate: events sent
// before the next choice would be lost.
// See docs/decisions/backplane.md#why-does-each-foreign-layer-have-a-single-source
func (b *Backplane) chooseSources() {
	if b.leaving() { // a new source would send what nobody receives any more
		return
	}
	own := b.ownLayer()
	_, stores := b.hub.Broker().(relay.KeyStore) // read before locking: the hub calls Interest under its own lock
	first := b.awaitsPeers()
	i := &b.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	chosen := map[string]*link{}
	for l := range i.relays {
		if l.phase().isSource() {
			chosen[l.peer.layer] = l
		}
	}
	for l := range i.relays {
		if l.phase() != phaseStandby {
			continue
		}
		if other := chosen[l.peer.layer]; other == nil || !other.phase().isSource() && l.betterSource(other) {
			chosen[l.peer.layer] = l
		}
	}
	for l := range i.relays {
		foreign := own != "" && l.peer.layer != "" && l.peer.layer != own
		wanted := foreign && chosen[l.peer.layer] == l
		if wanted == l.phase().isSource() {
			continue
		}
		if !wanted {
			l.move(signalReleased)
			l.sendInterest(true, nil, nil)
			continue
		}
		l.move(signalChosen)
		groups := i.list()
		b.openFirstGap(l, first, groups)
		if stores {
			groups = append(groups, metricsGroup)
		}
		l.ask(groups)
	}
}
