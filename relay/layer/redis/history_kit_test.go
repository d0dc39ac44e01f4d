package redis_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/layertest"
	"github.com/edgerelay/edgerelay/relay/layer/redis"
)

// everything gives all groups a history.
var everything = relay.HistoryPolicy{Rules: []relay.HistoryRule{{
	Pattern: "*", HistoryLimits: relay.HistoryLimits{Count: 100_000, Bytes: 64 << 20, Age: 5 * time.Minute},
}}}

// keeper is a node with a history, and the part of the engine that serves it.
type keeper struct {
	*redis.Broker
	history relay.History
	layertest.LossSink
}

// Deliver implements [relay.Sink].
func (k *keeper) Deliver(events []relay.Event) {
	k.history.Record(events)
	k.LossSink.Deliver(events)
}

// Lost implements [relay.LossSink].
func (k *keeper) Lost(l relay.Loss) {
	k.history.MarkGap(l)
	k.LossSink.Lost(l)
}

// lossesOf returns the number of losses that clients in a group were told of.
func (k *keeper) lossesOf(group string) (n int) {
	for cause := range relay.LossCauseCount {
		for _, l := range k.Of(cause) {
			if l.All || slices.Contains(l.Groups, group) {
				n++
			}
		}
	}
	return n
}

// newKeeper returns a node that is not started.
func newKeeper(t testing.TB, s redis.Settings) *keeper {
	t.Helper()
	k := &keeper{Broker: newBroker(t, s)}
	k.SetEmitterLag(0)
	h, err := k.KeepHistory(everything)
	if err != nil {
		t.Fatal(err)
	}
	k.history = h
	return k
}

// startKeeper returns a running node that is a member of groups. It closes without haste at the end of the test.
func startKeeper(t testing.TB, s redis.Settings, groups ...string) *keeper {
	t.Helper()
	k := newKeeper(t, s)
	run(t, k.Broker, k, groups...)
	return k
}

// startQuickKeeper returns a node that takes others for dead after two seconds.
func startQuickKeeper(t testing.TB, s redis.Settings, groups ...string) *keeper {
	t.Helper()
	k := newKeeper(t, s)
	k.SetBeat(100*time.Millisecond, 1500*time.Millisecond, 500*time.Millisecond)
	run(t, k.Broker, k, groups...)
	return k
}

// join makes the node a member of groups.
func (k *keeper) join(t testing.TB, groups ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	if err := k.Join(ctx, groups...); err != nil {
		t.Fatal(err)
	}
}

// positionOf waits for an event of a group and returns its position.
func (k *keeper) positionOf(t testing.TB, group, text string) (at relay.Position) {
	t.Helper()
	testkit.Eventually(t, "the event "+text, func() bool {
		for _, ev := range k.Events() {
			if ev.Group == group && string(ev.Text) == text {
				at = ev.Position
				return true
			}
		}
		return false
	})
	if at.IsZero() {
		t.Fatalf("%s has no position", text)
	}
	return at
}

// resume returns the texts behind a position, and why they may not be complete.
func (k *keeper) resume(t testing.TB, group string, after relay.Position) (texts []string, reason error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	page := k.history.Read(ctx, []relay.HistoryQuery{{Group: group, After: []relay.Position{after}}})[0]
	if page.Err != nil {
		return nil, page.Err
	}
	for _, ev := range page.Events {
		if ev.Position != after {
			texts = append(texts, string(ev.Text))
		}
	}
	return texts, page.Resumable[0]
}

// expectResume checks that a resume is complete, and its events.
func (k *keeper) expectResume(t testing.TB, group string, after relay.Position, want ...string) {
	t.Helper()
	texts, reason := k.resume(t, group, after)
	if reason != nil {
		t.Fatalf("not recovered: %v (%d events)", reason, len(texts))
	}
	if !slices.Equal(texts, want) {
		t.Fatalf("recovered %q, want %q", texts, want)
	}
}

// publisher returns a function that publishes texts, as an emitter of its own.
func publisher(t testing.TB, servers ...*peers.Redis) func(group string, texts ...string) {
	p := newBroker(t, settings(servers...))
	t.Cleanup(func() { _ = p.Close(context.Background()) })
	return func(group string, texts ...string) {
		t.Helper()
		for _, text := range texts {
			if _, err := p.Publish(context.Background(), group, []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// numbered returns the texts of events from, …, to-1.
func numbered(from, to int) (texts []string) {
	for i := from; i < to; i++ {
		texts = append(texts, fmt.Sprintf("<%d>", i))
	}
	return texts
}

// flight returns the number of messages in a key.
func flight(server *peers.Redis, key string) int64 { return server.Do("ZCARD", key).(int64) }
