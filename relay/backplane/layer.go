package backplane

import (
	"context"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// layerEvery is how often the layer's identity is read again; a Redis that was emptied has a new one.
	layerEvery = 15 * time.Second
	// layerWait is how long reading it may take.
	layerWait = 2 * time.Second
)

// identified is a channel layer that can tell whether it is the same as another node's.
type identified interface {
	LayerID(ctx context.Context) (string, error)
}

// layer is the identity of this node's channel layer, empty as long as it is not known. Nothing may call the hub
// while mu is held.
type layer struct {
	reading sync.Mutex // held while it is read

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

// readLayer reads the identity, and tells peers if it is another than before. While the layer
// cannot be asked, it is taken to be the one it was.
func (b *Backplane) readLayer(ctx context.Context) {
	b.layer.reading.Lock()
	defer b.layer.reading.Unlock()
	broker := b.hub.Broker()
	if broker == nil {
		return
	}
	id := "node-" + b.id
	if asked, ok := broker.(identified); ok {
		ctx, cancel := context.WithTimeout(ctx, layerWait)
		defer cancel()
		var err error
		if id, err = asked.LayerID(ctx); err != nil {
			b.layer.mu.Lock()
			first := !b.layer.failing
			b.layer.failing = true
			b.layer.mu.Unlock()
			if first {
				b.log.Warn("the channel layer's identity cannot be read; until it was once, events are not exchanged with other relays", "error", err)
			}
			return
		}
	}
	b.layer.mu.Lock()
	lastProgress := b.layer.broker != nil && b.layer.broker != broker
	changed := b.layer.id != id
	b.layer.broker, b.layer.id, b.layer.failing = broker, id, false
	b.layer.mu.Unlock()
	if changed {
		b.announceLayer(id)
		b.chooseSources()
	}
	if lastProgress { // what was found out about Python nodes held for the old layer
		for _, l := range b.allLinks() {
			if l.dialect != EdgeRelay {
				l.end(errMoved)
			}
		}
	}
}

// Refresh takes notice at once that the hub has another channel layer; otherwise it takes a second.
func (b *Backplane) Refresh(ctx context.Context) {
	broker := b.hub.Broker()
	b.layer.mu.Lock()
	lastProgress := b.layer.broker != broker
	b.layer.mu.Unlock()
	if lastProgress {
		b.readLayer(ctx)
	}
}

// watchLayer reads the identity when the broker is another one, and now and then.
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

// sayLayer tells all relays.
func (b *Backplane) announceLayer(id string) {
	i := &b.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	for l := range i.relays {
		l.sendMessage(message{Type: "layer", Layer: id})
	}
}

// peerLayer notes the identity of a relay's layer. If it was ours until now, ours may just have changed, too.
func (l *link) setPeerLayer(id string) {
	i := &l.b.interest
	i.mu.Lock()
	before := l.peer.layer
	l.peer.layer = id
	i.mu.Unlock()
	if own := l.b.ownLayer(); own == "" || id != before && (own == before || own == id) {
		l.b.readLayer(l.ctx)
	}
	l.b.chooseSources()
}

// chooseSources picks, for each foreign layer, one link whose peer sends this node the layer's events. A choice
// holds as long as the link does; so one that the dialling side may be about to close is no candidate, or what is sent until the next
// choice would be lost.
func (b *Backplane) chooseSources() {
	own := b.ownLayer()
	_, stores := b.hub.Broker().(setter) // asked before the lock: the hub calls Interest under its own
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
		if chosen[l.peer.layer] == nil && l.phase() == phaseStandby {
			chosen[l.peer.layer] = l
		}
	}
	for l := range i.relays {
		foreign := own != "" && l.peer.layer != "" && l.peer.layer != own
		wanted := foreign && chosen[l.peer.layer] == l
		if wanted == l.phase().isSource() {
			continue
		}
		var groups []string
		if !wanted {
			l.move(signalReleased)
		} else {
			l.move(signalChosen)
			groups = i.list()
			if stores {
				groups = append(groups, metricsGroup)
			}
		}
		l.peer.gapSeq = l.sendInterest(true, groups, nil)
	}
}
