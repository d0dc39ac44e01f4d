// Package memory is a channel layer inside a process, for a single node without Redis and for tests. Several nodes of a
// process can share a [Layer].
package memory

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/asgi"
)

// Layer connects the nodes of a process.
type Layer struct {
	id     string
	mu     sync.Mutex
	groups map[string]map[*Broker]bool
}

// NewLayer returns an empty layer.
func NewLayer() *Layer { return &Layer{id: rand.Text(), groups: map[string]map[*Broker]bool{}} }

// Broker is a node's view of a Layer. It implements [relay.Broker].
type Broker struct {
	layer *Layer
	since time.Time
	left  bool // guarded by layer.mu
	// messages is set if messages of any type are delivered.
	messages atomic.Bool

	// order serializes the deliveries of concurrent publishers, and guards the fields below.
	order  sync.Mutex
	sink   relay.Sink
	closed bool
}

var _ relay.Broker = (*Broker)(nil)

var (
	_ relay.LayerIdentifier  = (*Broker)(nil)
	_ relay.MessageReceiver  = (*Broker)(nil)
	_ relay.MessagePublisher = (*Broker)(nil)
)

// Broker returns the view of a new node.
func (l *Layer) Broker() *Broker { return &Broker{layer: l, since: time.Now()} }

// Start implements [relay.Broker].
func (b *Broker) Start(sink relay.Sink) error {
	b.order.Lock()
	defer b.order.Unlock()
	if b.sink != nil || b.closed {
		return fmt.Errorf("memory layer: started already: %w", relay.ErrClosed)
	}
	b.sink = sink
	return nil
}

// Join implements [relay.Broker].
func (b *Broker) Join(_ context.Context, groups ...string) error {
	b.layer.mu.Lock()
	defer b.layer.mu.Unlock()
	if b.left {
		return fmt.Errorf("memory layer: %w", relay.ErrClosed)
	}
	for _, g := range groups {
		members := b.layer.groups[g]
		if members == nil {
			members = map[*Broker]bool{}
			b.layer.groups[g] = members
		}
		members[b] = true
	}
	return nil
}

// Leave implements [relay.Broker].
func (b *Broker) Leave(groups ...string) {
	b.layer.mu.Lock()
	defer b.layer.mu.Unlock()
	for _, g := range groups {
		delete(b.layer.groups[g], b)
		if len(b.layer.groups[g]) == 0 {
			delete(b.layer.groups, g)
		}
	}
}

// Publish implements [relay.Broker]. It returns after delivery to every member's sink.
func (b *Broker) Publish(_ context.Context, group string, text []byte) (relay.Receipt, error) {
	if err := relay.CheckGroup(group); err != nil {
		return relay.Receipt{}, fmt.Errorf("publishing: %w", err)
	}
	return b.publish(relay.Event{Group: group, Text: text}), nil
}

// PublishMessage implements [relay.MessagePublisher].
func (b *Broker) PublishMessage(_ context.Context, m relay.Message) (relay.Receipt, error) {
	if err := relay.CheckGroup(m.Group); err != nil {
		return relay.Receipt{}, fmt.Errorf("publishing: %w", err)
	}
	text, err := asgi.Object(&m)
	if err != nil {
		return relay.Receipt{}, fmt.Errorf("publishing: %w", err)
	}
	return b.publish(relay.Event{Group: m.Group, Type: m.Type, Text: text, Sender: m.Sender}), nil
}

// ReceiveMessages implements [relay.MessageReceiver].
func (b *Broker) ReceiveMessages(on bool) { b.messages.Store(on) }

// publish delivers an event to every member of its group.
func (b *Broker) publish(ev relay.Event) relay.Receipt {
	ev.NeedsRelay, ev.Sent = true, time.Now()
	b.layer.mu.Lock()
	members := make([]*Broker, 0, len(b.layer.groups[ev.Group]))
	for m := range b.layer.groups[ev.Group] {
		members = append(members, m)
	}
	b.layer.mu.Unlock()
	for _, m := range members {
		if ev.Type == "" || m.messages.Load() {
			m.deliver(ev)
		}
	}
	return relay.Receipt{Members: len(members)}
}

func (b *Broker) deliver(ev relay.Event) {
	b.order.Lock()
	defer b.order.Unlock()
	if b.sink != nil && !b.closed {
		b.sink.Deliver([]relay.Event{ev})
	}
}

// LayerID identifies the layer: nodes with the same ID see the same events.
func (b *Broker) LayerID(context.Context) (string, error) { return "memory-" + b.layer.id, nil }

// Health implements [relay.Broker]. The layer is always healthy.
func (b *Broker) Health() relay.Health {
	return relay.Health{OK: true, Detail: "memory channel layer", Since: b.since}
}

// Close implements [relay.Broker].
func (b *Broker) Close(context.Context) error {
	b.layer.mu.Lock()
	b.left = true
	for g, members := range b.layer.groups {
		delete(members, b)
		if len(members) == 0 {
			delete(b.layer.groups, g)
		}
	}
	b.layer.mu.Unlock()
	b.order.Lock()
	defer b.order.Unlock()
	b.closed = true
	return nil
}
