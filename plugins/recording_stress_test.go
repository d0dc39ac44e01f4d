package plugins

import (
	"context"
	"sync"
	"testing"
)

// TestRecordingEndsWithItsPlugin: the reader of a recording must not wait for a plugin that a configuration has
// removed.
func TestRecordingEndsWithItsPlugin(t *testing.T) {
	p := pipeline(t, Options{}, functionSpec(t))
	r := record(t, p, RecordingOptions{})
	if err := p.Apply(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	if _, over := r.take(); !over {
		t.Error("the recording goes on")
	}
}

// TestRecordingsBesideDeployments records clients while they come and go, and while modules are replaced, for the race
// detector.
func TestRecordingsBesideDeployments(t *testing.T) {
	p := pipeline(t, Options{}, functionSpec(t))
	p.SetServices(Services{Shared: answering{}})
	p.SetPublisher(func(string, *Action) {})
	ctx := context.Background()
	going, stop := context.WithCancel(ctx)
	defer stop()
	var clients, others sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			for n := range 40 {
				query := []string{"", "teapot", "fail", "trap"}[n%4]
				converse(t, p, uint64(1+i+n%2), query, `{"do":"get","key":"k","context":"c"}`, `{"do":"id"}`)
				_ = p.Alarm(ctx, "f", "turn", []byte("x"), nil)
			}
		})
	}
	others.Go(func() {
		for going.Err() == nil {
			if err := p.Deploy(ctx, "f", fixture(t, "function")); err != nil {
				t.Error(err)
			}
		}
	})
	others.Go(func() {
		for going.Err() == nil {
			r, err := p.Record("f", RecordingOptions{Connections: 5, Bytes: 20_000, Open: true})
			if err != nil {
				t.Error(err)
				return
			}
			for lines := 0; lines < 3 && going.Err() == nil; lines++ {
				if _, err := r.Next(going); err != nil {
					break
				}
			}
			r.Close()
		}
	})
	clients.Wait()
	stop()
	others.Wait()
}
