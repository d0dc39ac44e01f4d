package redis_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/layertest"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// TestSentinelFailover has the master killed.
func TestSentinelFailover(t *testing.T) { failover(t, true) }

// failover has Python emit by Sentinel while the master changes, and counts.
func failover(t *testing.T, kill bool) {
	t.Parallel()
	first := peers.StartRedis(t, "--repl-diskless-sync-delay", "0")
	second := peers.StartReplica(t, first, "--repl-diskless-sync-delay", "0")
	sentinels := peers.StartSentinels(t, "mymaster", first, 1, 3, "watch")
	s := settings()
	s.Sentinels = []redisnet.Sentinel{{Master: "mymaster", Addresses: sentinels.Addrs, SentinelPassword: "watch"}}
	b, sink := newBroker(t, s), &layertest.LossSink{}
	run(t, b, sink, "g")
	python := peers.StartLayer(t, peers.CoreLayer, map[string]any{
		"capacity": 10_000,
		"hosts": []any{map[string]any{
			"master_name": "mymaster", "sentinels": sentinels.Pairs(), "sentinel_kwargs": map[string]any{"password": "watch"},
		}},
	})
	const interval = 2 * time.Millisecond
	wait := python.Pace("g", 0, 1_000_000, interval)
	arrives := func(what string) {
		t.Helper()
		n := len(sink.Texts("g"))
		testkit.Eventually(t, "events "+what, func() bool { return len(sink.Texts("g")) > n+100 })
	}
	moved := func(to *peers.Redis) {
		t.Helper()
		testkit.Eventually(t, "another master", func() bool { return sentinels.Master() == to.Addr })
	}
	arrives("at first")

	began := time.Now()
	if kill {
		first.Kill()
	} else {
		sentinels.Failover()
	}
	moved(second)
	arrives("after the failover")
	t.Logf("events flowed again %v after the blow", time.Since(began).Round(time.Millisecond))
	if !kill {
		client := first.Client()
		defer func() { _ = client.Close() }()
		testkit.Eventually(t, "the former master to follow", func() bool {
			role, err := client.Do(context.Background(), "ROLE").Slice()
			return err == nil && role[0] == "slave"
		})
		arrives("at the new master alone")
	}
	testkit.Eventually(t, "health", func() bool { return b.Health().OK })
	layertest.ExpectLoss(t, sink, relay.LossFailover, true)
	python.StopPacing()
	paced := wait()

	// What comes now has been sent after all this, so whatever is to come has come.
	python.Send(peers.Event{Group: "g", Text: `{"n": -1}`})
	testkit.Eventually(t, "the last event", func() bool {
		texts := sink.Texts("g")
		return texts[len(texts)-1] == `{"n": -1}`
	})
	seen := map[int]int{}
	for _, text := range sink.Texts("g") {
		var ev struct{ N int }
		if err := json.Unmarshal([]byte(text), &ev); err != nil {
			t.Fatal(err)
		}
		seen[ev.N]++
	}
	lost, twice := 0, 0
	for n := range paced.Times {
		switch {
		case seen[n] > 1:
			twice++
		case seen[n] == 0 && !paced.Failed[n]:
			lost++
		}
	}
	t.Logf("%d events, %d that Python could not send, %d lost with a master, %d delivered twice; health: %+v",
		len(paced.Times), len(paced.Failed), lost, twice, b.Health())
	if twice > 0 {
		t.Errorf("%d events were delivered twice", twice)
	}
	// Two kinds of events are lost: those of the last milliseconds, which the replica had not received when the master
	// died, and those sent before the memberships were restored.
	if lost > 500 {
		t.Errorf("%d events of %d were lost", lost, len(paced.Times))
	}
}

// TestSentinelDemotion has the sentinels replace a healthy master, which goes on taking events of Python for ten
// seconds.
func TestSentinelDemotion(t *testing.T) { failover(t, false) }

// TestIsolatedSentinel believes the newest configuration, not the first answer.
func TestIsolatedSentinel(t *testing.T) {
	old, now := peers.StartRedis(t), peers.StartRedis(t)
	stale := peers.StartSentinels(t, "mymaster", old, 0, 1, "")
	fresh := peers.StartSentinels(t, "mymaster", now, 0, 1, "", "sentinel config-epoch mymaster 7")
	s := settings()
	s.Sentinels = []redisnet.Sentinel{{Master: "mymaster", Addresses: append(stale.Addrs, fresh.Addrs...)}}
	for range 5 {
		b, _ := start(t, s, "g")
		if n := now.Do("EXISTS", "asgi:group:g"); n != int64(1) {
			t.Fatal("joined elsewhere than at the master of the newest configuration")
		}
		if err := b.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}
