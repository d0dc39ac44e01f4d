//go:build soak

package soak

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// trouble injects faults.
type trouble struct {
	t                              *testing.T
	relay                          *peers.Relay
	redis                          *peers.Redis
	file                           func(variant int) string // the relay's Caddyfile
	reloads, swaps, restarts, ends atomic.Int64

	mu      sync.Mutex
	outages []outage
}

// settle is the time after a restart of Redis in which members may be missing; transit is the time before its end in
// which an event may have been in flight.
const settle, transit = 2 * time.Second, 500 * time.Millisecond

// reload replaces the configuration at intervals.
func (tr *trouble) reload(ctx context.Context, every time.Duration) {
	for variant := 1; ctx.Err() == nil; variant++ {
		testkit.Pause(ctx.Done(), every)
		if err := tr.relay.Load(tr.file(variant)); err != nil {
			tr.t.Errorf("reload: %v", err)
			return
		}
		tr.reloads.Add(1)
	}
}

// swap deploys another module with the same behavior.
func (tr *trouble) swap(ctx context.Context, every time.Duration) {
	wasm, err := os.ReadFile(filepath.Join(peers.Root(tr.t), "examples", "plugins", "quiet", "plugin.wasm"))
	if err != nil {
		tr.t.Error(err)
		return
	}
	for n := byte(0); ctx.Err() == nil; n++ {
		testkit.Pause(ctx.Done(), every)
		module := append(bytes.Clone(wasm), 0, 3, 1, 'n', n) // a custom section
		req, err := http.NewRequest(http.MethodPut, tr.relay.Admin+"/edgerelay/plugins/quiet", bytes.NewReader(module))
		if err != nil {
			tr.t.Error(err)
			return
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil { // the admin API of the configuration before a reload took the connection with it
			continue
		}
		answer, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			tr.t.Errorf("deploy: %s %s", resp.Status, answer)
			return
		}
		tr.swaps.Add(1)
	}
}

// restartRedis kills Redis, which persists nothing, and starts it again.
func (tr *trouble) restartRedis(ctx context.Context, every time.Duration) {
	for ctx.Err() == nil {
		testkit.Pause(ctx.Done(), every)
		if ctx.Err() != nil {
			return
		}
		from := time.Now()
		tr.redis.Kill()
		testkit.Pause(ctx.Done(), time.Second)
		tr.redis.Restart()
		tr.well()
		tr.mu.Lock()
		tr.outages = append(tr.outages, outage{from.Add(-transit), time.Now().Add(settle)})
		tr.mu.Unlock()
		tr.restarts.Add(1)
	}
}

// well waits until the relay reports a healthy channel layer.
func (tr *trouble) well() {
	err := testkit.Poll(testkit.Patience, nil, func() error {
		_, err := get(tr.relay.Admin + "/edgerelay/health")
		return err
	})
	if err != nil {
		tr.t.Errorf("the channel layer is still unhealthy after the restart of Redis: %v", err)
	}
}

// comeAndGo stops a neighbor and starts it again: in order or, where there is time to remove the dead node, by kill
// -9.
func (tr *trouble) comeAndGo(ctx context.Context, neighbour *peers.Relay, caddyfile string, every time.Duration,
	kill bool,
) {
	for n := 0; ctx.Err() == nil; n++ {
		testkit.Pause(ctx.Done(), every)
		if ctx.Err() != nil {
			return
		}
		if kill && n%2 == 1 {
			neighbour.Kill()
		} else {
			neighbour.Stop(tr.t, 30*time.Second)
		}
		testkit.Pause(ctx.Done(), every/4)
		neighbour.Restart(caddyfile)
		tr.ends.Add(1)
	}
}
