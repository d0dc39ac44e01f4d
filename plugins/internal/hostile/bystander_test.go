package hostile

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/lanes"
	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
)

const (
	// maxGap bounds how late an event of another group is, on a busy machine. The aim is ten milliseconds. A guest that
	// is not interrupted, or a change that is waited for, takes longer.
	maxGap = 500 * time.Millisecond
	// attempts is how often a kind may be measured: other work on the machine makes events late, too.
	attempts = 3
	// interval is the time between two events of other groups.
	interval = 2 * time.Millisecond
	// maxQueued is how many events wait for hostile plugins at most.
	maxQueued = 16
)

// node is what a relay does with events, without its clients: one goroutine takes the events of all groups through
// Lanes, as the reader of a channel layer does.
type node struct {
	pipeline *plugins.Pipeline
	lanes    *lanes.Lanes
	classes  uint8 // of the subscribers
	store    store
	stop     func() // ends the publishing of plugins' messages

	mu     sync.Mutex
	latest time.Duration // of an event of other groups
	others int           // events of other groups that have arrived
}

// startNode starts a node with the specs and a plugin that passes the events of the group "other".
func startNode(t *testing.T, o plugins.Options, specs ...plugins.Spec) *node {
	t.Helper()
	o.Logger = quiet
	p, err := plugins.New(o)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{pipeline: p, classes: 1}
	n.lanes = lanes.New(p, n.forward, lanes.Options{})
	n.stop = n.publish()
	p.SetServices(plugins.Services{Shared: &n.store, Alarms: &n.store, Fetch: &n.store})
	other := plugins.Spec{Name: "other", Wasm: read(t, "../../testdata/pass.wasm"), Groups: []string{"other"}}
	if err := n.lanes.Apply(context.Background(), append([]plugins.Spec{other}, specs...)); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) close(t *testing.T) {
	t.Helper()
	n.store.stopped.Store(true)
	n.stop()
	if err := n.pipeline.Close(); err != nil {
		t.Error(err)
	}
	n.lanes.Close()
	n.store.running.Wait()
}

func (n *node) forward(events []relay.Event) {
	for i := range events {
		ev := &events[i]
		if r := ev.Redaction; r != nil && r.Render != nil {
			for class := range n.classes {
				_, _ = r.Render(class)
			}
		}
		if ev.Group == "other" || ev.Group == "free" {
			n.mu.Lock()
			n.latest, n.others = max(n.latest, time.Since(ev.Sent)), n.others+1
			n.mu.Unlock()
		}
	}
}

// beside sends events of other groups, with and without a plugin, at a steady pace while attack is called between them,
// until done reports true. It returns how late the latest event of the other groups arrived, counted from the time at
// which it was due.
func (n *node) beside(t *testing.T, attack func(), done func() bool) time.Duration {
	t.Helper()
	n.mu.Lock()
	n.latest, n.others = 0, 0
	n.mu.Unlock()
	sent := 0
	for due := time.Now(); !done(); due = due.Add(interval) {
		attack()
		if wait := time.Until(due); wait > 0 {
			time.Sleep(wait)
		}
		n.forward(n.lanes.Intercept([]relay.Event{
			{Group: "other", Text: []byte("{}"), Sent: due}, {Group: "free", Text: []byte("{}"), Sent: due},
		}))
		sent += 2
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		n.mu.Lock()
		others, latest := n.others, n.latest
		n.mu.Unlock()
		if others == sent {
			return latest
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d events of other groups arrive", others, sent)
		}
	}
}

// during returns a condition that is true once d has passed.
func during(d time.Duration) (done func() bool) {
	began := time.Now()
	return func() bool { return time.Since(began) >= d }
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	wasm, err := os.ReadFile(filepath.FromSlash(name))
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}
