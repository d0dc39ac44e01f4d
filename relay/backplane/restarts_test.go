package backplane_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// restarting is a node with a channel layer and a history that outlive its runs.
type restarting struct {
	t       *testing.T
	layer   *memory.Layer
	history relay.History
	address string
	options []option
	*node
}

// restart ends the run, if there is one, and starts another process: a hub without memory on the same layer and
// history.
func (r *restarting) restart() *node {
	r.t.Helper()
	if r.node != nil {
		r.address = r.server.Listener.Addr().String()
		r.stop()
	}
	if r.address == "" {
		r.address = testkit.Loopback(testkit.FreePort(r.t))
	}
	r.node = newNodeAt(r.t, r.layer.Broker(), r.address)
	r.node.layer = r.layer
	r.hub.SetHistory(r.history)
	r.start(append([]option{swift}, r.options...)...)
	return r.node
}

// stop ends the run.
func (r *restarting) stop() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := r.plane.Close(ctx); err != nil {
		r.t.Error(err)
	}
	r.server.Close()
	_ = r.hub.Close(ctx)
}

func newHistory() *sharedHistory { return &sharedHistory{groups: map[string][]relay.Event{}} }

// texts returns what a client got, and waits until that is as much as wanted.
func (c *client) await(t *testing.T, want ...string) {
	t.Helper()
	testkit.Eventually(t, "the events", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.texts) < len(want) {
			return fmt.Errorf("%q, want %q", c.texts, want)
		}
		return nil
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if fmt.Sprint(c.texts) != fmt.Sprint(want) {
		t.Fatalf("%q, want %q", c.texts, want)
	}
}

// A node restarts, and shortly after that its peer. The peer's history begins before the node's run: clients do not get
// again what the run before has delivered. Without a history that tells what that was, a loss is reported.
func TestBothSidesRestart(t *testing.T) {
	for _, c := range []struct {
		name    string
		history relay.History
		losses  uint64
	}{{"with a history", newHistory(), 0}, {"without a history", nil, 1}} {
		t.Run(c.name, func(t *testing.T) {
			leakCheck(t)
			x := &restarting{t: t, layer: memory.NewLayer(), history: newHistory()}
			x.restart()
			z := &restarting{t: t, layer: memory.NewLayer(), history: c.history}
			z.options = []option{peersOf(x.server.URL)}
			z.restart()
			x.client("job-1") // so that the history of x has all events
			before := z.client("job-1")
			z.ready()
			x.emit("job-1", "1")
			x.emit("job-1", "2")
			before.await(t, "1", "2")
			z.restart()
			after := z.client("job-1")
			z.ready()
			x.emit("job-1", "3")
			after.await(t, "3")
			lost := z.lost(relay.LossPeerLink)
			x.restart()
			x.client("job-1")
			z.ready()
			x.emit("job-1", "4")
			after.await(t, "3", "4")
			if n := z.lost(relay.LossPeerLink) - lost; n != c.losses {
				t.Errorf("%d losses are reported, want %d", n, c.losses)
			}
		})
	}
}

// A group is subscribed shortly before the peer restarts: clients do not get events from before the subscription.
func TestSubscriptionShortlyBeforeARestart(t *testing.T) {
	leakCheck(t)
	x := &restarting{t: t, layer: memory.NewLayer(), history: newHistory()}
	x.restart()
	z := &restarting{t: t, layer: memory.NewLayer(), history: newHistory()}
	z.options = []option{peersOf(x.server.URL)}
	z.restart()
	x.client("job-1")
	z.ready()
	x.emit("job-1", "1")
	c := z.client("job-1")
	x.emit("job-1", "2")
	c.await(t, "2")
	x.restart()
	x.client("job-1")
	z.ready()
	x.emit("job-1", "3")
	c.await(t, "2", "3")
}

// ready waits until the node has a source, and nothing is missing.
func (r *restarting) ready() {
	r.t.Helper()
	testkit.Eventually(r.t, "a source", func() error {
		connected := 0
		for _, p := range r.plane.Peers() {
			if p.Source && p.State == backplane.StateConnected {
				connected++
			}
		}
		if connected != 1 || r.plane.Incomplete("job-1") {
			return fmt.Errorf("%+v", r.plane.Peers())
		}
		return nil
	})
}
