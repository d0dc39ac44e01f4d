package hub_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// gatedBroker joins once gate is closed.
type gatedBroker struct {
	mu      sync.Mutex
	joined  map[string]bool
	gate    chan struct{}
	waiting chan struct{}
}

func (b *gatedBroker) Start(relay.Sink) error { return nil }
func (b *gatedBroker) Join(ctx context.Context, groups ...string) error {
	select {
	case b.waiting <- struct{}{}:
	default:
	}
	select {
	case <-b.gate:
	case <-ctx.Done():
		return ctx.Err()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, g := range groups {
		b.joined[g] = true
	}
	return nil
}

func (b *gatedBroker) Leave(groups ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, g := range groups {
		delete(b.joined, g)
	}
}

func (b *gatedBroker) Publish(context.Context, string, []byte) (relay.Receipt, error) {
	return relay.Receipt{}, nil
}
func (b *gatedBroker) Health() relay.Health        { return relay.Health{OK: true} }
func (b *gatedBroker) Close(context.Context) error { return nil }

func newGatedBroker() *gatedBroker {
	return &gatedBroker{joined: map[string]bool{}, gate: make(chan struct{}), waiting: make(chan struct{}, 1)}
}

// A group loses its last client between the exchange of the layer and the join in the next layer.
func TestGroupLeftDuringExchangeIsNotJoined(t *testing.T) {
	h, _ := newHub(t)
	s, _ := open(h)
	subscribe(t, h, s, "g")
	b := newGatedBroker()
	done := make(chan error, 1)
	go func() { done <- h.SetBroker(t.Context(), b) }()
	<-b.waiting
	s.Close()
	close(b.gate)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.joined) > 0 {
		t.Errorf("still a member of %v, want no group", b.joined)
	}
}

// The first joiner times out before the layer has joined; the second joiner still waits for the layer.
func TestJoinOutlivesCanceledJoiner(t *testing.T) {
	h := hub.New(quiet)
	t.Cleanup(func() { _ = h.Close(context.Background()) })
	h.SetAuthorizer(relay.Open{}, 0)
	b := newGatedBroker()
	if err := h.SetBroker(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	first, giveUp := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s, _ := open(h)
		defer s.Close()
		if _, err := s.Subscribe(first, relay.Groups("g")); !errors.Is(err, context.Canceled) {
			t.Errorf("the first: %v", err)
		}
	}()
	<-b.waiting
	s, _ := open(h)
	defer s.Close()
	time.AfterFunc(50*time.Millisecond, giveUp)
	time.AfterFunc(100*time.Millisecond, func() { close(b.gate) })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := s.Subscribe(ctx, relay.Groups("g")); err != nil {
		t.Fatal(err)
	}
	<-ended
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.joined["g"] {
		t.Error("Subscribe returned before the layer had joined")
	}
}
