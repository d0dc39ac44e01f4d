package cluster_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/layer/cluster"
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func settings(addresses ...string) cluster.Settings {
	s := cluster.DefaultSettings()
	s.Addresses = addresses
	return s
}

// sink also notes when it was told last that a group may have missed events.
type sink struct {
	relaytest.Sink
	mu   sync.Mutex
	told map[string]time.Time
}

// Lost implements [relay.LossSink].
func (s *sink) Lost(l relay.Loss) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range l.Groups {
		s.told[g] = time.Now()
	}
}

func (s *sink) toldOf(group string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told[group]
}

func newBroker(t testing.TB, s cluster.Settings) *cluster.Broker {
	t.Helper()
	b, err := cluster.New(s, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// start returns a running broker that listens to groups.
func start(t testing.TB, s cluster.Settings, groups ...string) (*cluster.Broker, *sink) {
	t.Helper()
	b, sink := newBroker(t, s), &sink{told: map[string]time.Time{}}
	if err := b.Start(sink); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = b.Close(ctx)
	})
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	if err := b.Join(ctx, groups...); err != nil {
		t.Fatal(err)
	}
	return b, sink
}

func names(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("job_events-%d", i)
	}
	return list
}
