// Package relaytest has the conformance suite of channel layers.
package relaytest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
)

// Sink records events.
type Sink struct {
	mu     sync.Mutex
	events []relay.Event
	gate   chan struct{}
}

// Deliver implements [relay.Sink].
func (s *Sink) Deliver(events []relay.Event) {
	s.mu.Lock()
	gate := s.gate
	s.mu.Unlock()
	if gate != nil {
		<-gate
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, events...)
}

// Hold makes Deliver block until the returned function is called.
func (s *Sink) Hold() (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gate := make(chan struct{})
	s.gate = gate
	return sync.OnceFunc(func() {
		s.mu.Lock()
		s.gate = nil
		s.mu.Unlock()
		close(gate)
	})
}

// Events returns the events so far.
func (s *Sink) Events() []relay.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]relay.Event(nil), s.events...)
}

// Texts returns the texts of a group's events so far.
func (s *Sink) Texts(group string) []string {
	var texts []string
	for _, ev := range s.Events() {
		if ev.Group == group {
			texts = append(texts, string(ev.Text))
		}
	}
	return texts
}

// Layer returns brokers of the same channel layer, not started yet.
type Layer func(t testing.TB) relay.Broker

// Run tests that a channel layer behaves as the engine expects.
func Run(t *testing.T, layer Layer) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()

	start := func(t testing.TB) (relay.Broker, *Sink) {
		b, s := layer(t), &Sink{}
		if err := b.Start(s); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close(context.Background()) })
		return b, s
	}
	publish := func(t testing.TB, b relay.Broker, group, text string) relay.Receipt {
		t.Helper()
		r, err := b.Publish(ctx, group, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	join := func(t testing.TB, b relay.Broker, groups ...string) {
		t.Helper()
		if err := b.Join(ctx, groups...); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("delivers to members only, text untouched", func(t *testing.T) {
		a, as := start(t)
		b, bs := start(t)
		join(t, a, "g-1", "g-2")
		join(t, b, "g-2")
		text := "{\"x\":  1, \"s\": \"\\u001b[0;32mok\u00e9 <&>\"}"
		if r := publish(t, a, "g-1", text); r.Members != 1 {
			t.Errorf("g-1 has %d members, want 1", r.Members)
		}
		if r := publish(t, b, "g-2", "2"); r.Members != 2 {
			t.Errorf("g-2 has %d members, want 2", r.Members)
		}
		if r := publish(t, a, "nobody", "3"); r.Members != 0 {
			t.Errorf("nobody has %d members, want 0", r.Members)
		}
		testkit.Eventually(t, "both members have their events", func() bool {
			return len(as.Events()) == 2 && len(bs.Events()) == 1
		})
		if got := as.Texts("g-1"); len(got) != 1 || got[0] != text {
			t.Errorf("got %q, want %q", got, text)
		}
		if got := bs.Texts("g-2"); len(got) != 1 || got[0] != "2" {
			t.Errorf("got %q", got)
		}
	})

	t.Run("keeps the order, loses and doubles nothing", func(t *testing.T) {
		b, s := start(t)
		join(t, b, "order")
		const n = 2000
		for i := range n {
			publish(t, b, "order", fmt.Sprint(i))
		}
		testkit.Eventually(t, "all events", func() bool { return len(s.Events()) >= n })
		for i, text := range s.Texts("order") {
			if text != fmt.Sprint(i) {
				t.Fatalf("event %d is %s", i, text)
			}
		}
	})

	t.Run("leaves and joins again", func(t *testing.T) {
		b, s := start(t)
		other, os := start(t)
		join(t, other, "again")
		in := func() (n int) {
			for _, text := range s.Texts("again") {
				if text != "out" { // sent while the membership was ending
					n++
				}
			}
			return n
		}
		for round := range 20 {
			join(t, b, "again")
			publish(t, other, "again", fmt.Sprintf("in %d", round))
			testkit.Eventually(t, "the event of a member", func() bool { return in() == round+1 })
			b.Leave("again")
			testkit.Eventually(t, "the membership to end", func() bool {
				return publish(t, other, "again", "out").Members == 1
			})
		}
		testkit.Eventually(t, "the member that stayed has its events", func() bool { return len(os.Events()) >= 40 })
	})

	t.Run("a blocked sink loses nothing", func(t *testing.T) {
		b, s := start(t)
		other, _ := start(t)
		join(t, b, "slow")
		release := s.Hold()
		defer release()
		const n = 90 // below every layer's capacity
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range n {
				publish(t, other, "slow", fmt.Sprint(i))
			}
		}()
		release()
		<-done
		testkit.Eventually(t, "all events", func() bool { return len(s.Events()) == n })
	})

	t.Run("messages of any type", func(t *testing.T) {
		b, s := start(t)
		runMessages(t, b, s)
	})

	t.Run("closed", func(t *testing.T) {
		b, s := start(t)
		other, _ := start(t)
		join(t, b, "bye")
		publish(t, other, "bye", "last")
		if err := b.Close(ctx); err != nil {
			t.Fatal(err)
		}
		if got := s.Texts("bye"); len(got) != 1 {
			t.Errorf("%d events delivered by Close, want the event published before", len(got))
		}
		if r := publish(t, other, "bye", "late"); r.Members != 0 {
			t.Errorf("%d members after Close, want none", r.Members)
		}
		if err := b.Join(ctx, "bye"); err == nil {
			t.Error("Join of a closed broker succeeds")
		}
		if err := b.Close(ctx); err != nil {
			t.Errorf("second Close: %v", err)
		}
	})

	t.Run("health and bad names", func(t *testing.T) {
		b, _ := start(t)
		testkit.Eventually(t, "the layer to be healthy", func() bool { return b.Health().OK })
		for _, name := range []string{"", "a b", "é", string(make([]byte, 100)), "a/b"} {
			if _, err := b.Publish(ctx, name, []byte("1")); err == nil {
				t.Errorf("published to %q", name)
			}
		}
	})
}
