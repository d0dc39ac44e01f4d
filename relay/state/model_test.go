package state_test

import (
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/relay/state"
	"github.com/edgerelay/edgerelay/relay/state/statetest"
)

func connect(t *testing.T, h state.Hosts) *state.Connection {
	t.Helper()
	c, err := state.Connect(h, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestStoresBehaveLikeTheModel(t *testing.T) {
	t.Run("memory", func(t *testing.T) { statetest.New(t, nil).Run(5000) })
	t.Run("redis", func(t *testing.T) {
		statetest.New(t, connect(t, state.Hosts{URLs: []string{peers.StartRedis(t).URL}})).Run(5000)
	})
}

// The state goes on after a failover. What the replica had not received is lost, as with any client of Redis, so the
// comparison begins again.
func TestStateFollowsSentinel(t *testing.T) {
	first := peers.StartRedis(t, "--repl-diskless-sync-delay", "0")
	second := peers.StartReplica(t, first, "--repl-diskless-sync-delay", "0")
	sentinels := peers.StartSentinels(t, "mymaster", first, 1, 1, "watch")
	c := connect(t, state.Hosts{
		Sentinels: []state.Sentinel{{Master: "mymaster", Addresses: sentinels.Addrs, SentinelPassword: "watch"}},
	})
	before := statetest.New(t, c)
	before.Run(1000)
	if n := first.Do("WAIT", 1, 10_000); n != int64(1) {
		t.Fatalf("%v replicas have the state", n)
	}
	first.Kill()
	before.Await()
	before.Run(1000)
	if n := second.Do("EXISTS", "edgerelay:state:asgi:game:bytes"); n != int64(1) {
		t.Error("the state is not in the former replica")
	}
}
