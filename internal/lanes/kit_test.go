package lanes

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
)

// clients replaces the hub and keeps the forwarded events.
type clients struct {
	mu     sync.Mutex
	events []relay.Event
	missed []string
	losses []relay.Loss
	gate   chan struct{} // if not nil, forward receives from it first
	delay  time.Duration // of forward
}

func (c *clients) forward(events []relay.Event) {
	if c.gate != nil && len(events) > 0 {
		<-c.gate
	}
	time.Sleep(c.delay)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, events...)
}

// Lost implements relay.LossSink.
func (c *clients) Lost(l relay.Loss) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.losses = append(c.losses, l)
	for range l.Events {
		c.missed = append(c.missed, l.Groups[0]+": "+l.Cause.String())
	}
}

// misses returns the events that were reported missing.
func (c *clients) misses() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.missed)
}

// texts returns the texts of a group's events.
func (c *clients) texts(group string) (list []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ev := range c.events {
		if ev.Group == group {
			list = append(list, string(ev.Text))
		}
	}
	return list
}

func guest(t testing.TB, name string) []byte {
	t.Helper()
	wasm, err := os.ReadFile(filepath.Join("..", "..", "plugins", "testdata", name+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

func actor(t testing.TB, groups ...string) plugins.Spec {
	return plugins.Spec{Name: "actor", Wasm: guest(t, "actor"), Groups: groups, Grants: plugins.Grants}
}

func start(t testing.TB, c *clients, specs ...plugins.Spec) *Lanes {
	t.Helper()
	return startWith(t, c, slog.New(slog.DiscardHandler), specs...)
}

func startWith(t testing.TB, c *clients, log *slog.Logger, specs ...plugins.Spec) *Lanes {
	t.Helper()
	p, err := plugins.New(plugins.Options{Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	f := New(p, c.forward, Options{Exempt: []string{exempt}, Losses: c})
	t.Cleanup(func() {
		f.Close()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := f.Apply(context.Background(), specs); err != nil {
		t.Fatal(err)
	}
	return f
}

// exempt is a group that no plugin sees.
const exempt = "broadcast-exempt"

func event(group, text string) relay.Event { return relay.Event{Group: group, Text: []byte(text)} }

// blocking is a logger whose records with a text block until the gate is closed: a plugin that logs stays in its call.
type blocking struct {
	text string
	gate chan struct{}
}

func (b blocking) Enabled(context.Context, slog.Level) bool { return true }
func (b blocking) WithAttrs([]slog.Attr) slog.Handler       { return b }
func (b blocking) WithGroup(string) slog.Handler            { return b }

func (b blocking) Handle(_ context.Context, r slog.Record) error {
	if r.Message == b.text {
		<-b.gate
	}
	return nil
}

// startBlocking is start with plugins that block in the call of an event {"do":"log"} until release is called.
func startBlocking(t testing.TB, c *clients, specs ...plugins.Spec) (_ *Lanes, release func()) {
	t.Helper()
	gate := make(chan struct{})
	release = sync.OnceFunc(func() { close(gate) })
	f := startWith(t, c, slog.New(blocking{"a line", gate}), specs...)
	t.Cleanup(release)
	return f, release
}

// named returns an actor with a name.
func named(t testing.TB, name string, groups ...string) plugins.Spec {
	spec := actor(t, groups...)
	spec.Name = name
	return spec
}
