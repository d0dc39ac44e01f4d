package redis_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/layer/redis"
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

// startQuick starts a broker that takes a node for dead after a second.
func startQuick(t testing.TB, s redis.Settings, groups ...string) (*redis.Broker, *relaytest.Sink) {
	t.Helper()
	b, sink := newBroker(t, s), &relaytest.Sink{}
	b.SetBeat(50*time.Millisecond, 400*time.Millisecond, 600*time.Millisecond)
	run(t, b, sink, groups...)
	return b, sink
}

// keys returns the keys of a server that match a pattern.
func keys(server *peers.Redis, pattern string) (found []string) {
	for _, k := range server.Do("KEYS", pattern).([]any) {
		found = append(found, k.(string))
	}
	return found
}

// members returns how many members a group has on any of the servers.
func members(group string, servers ...*peers.Redis) (n int) {
	for _, s := range servers {
		n += int(s.Do("ZCARD", "asgi:group:"+group).(int64))
	}
	return n
}

func TestDeadNodesAreRemoved(t *testing.T) {
	servers := []*peers.Redis{peers.StartRedis(t), peers.StartRedis(t), peers.StartRedis(t)}
	for _, hosts := range []int{1, 3} {
		t.Run(fmt.Sprint(hosts, " hosts"), func(t *testing.T) {
			ring := servers[:hosts]
			s := settings(ring...)
			for _, r := range ring {
				r.Do("FLUSHALL")
			}
			groups := []string{"jobs-summary"}
			for i := range 1200 {
				groups = append(groups, fmt.Sprint("job_events-", i))
			}
			dead, _ := startQuick(t, s, groups...)
			// Python's: they look like ours and have no heartbeat. A large group, and a key of another type where
			// groups are.
			daphne := "specific." + strings.Repeat("d", 32) + "!"
			many := []any{"ZADD", "asgi:group:jobs-summary"}
			for i := range 1500 {
				many = append(many, 1, fmt.Sprint(daphne, i))
			}
			for _, r := range ring {
				r.Do(many...)
			}
			ring[0].Do("SET", "asgi:group:odd", "x")
			python := members("jobs-summary", ring...) - 1

			alive, sink := startQuick(t, s, "jobs-summary", "job_events-7")
			if n := members("job_events-7", ring...); n != 2 {
				t.Fatalf("%d members, want 2", n)
			}
			dead.Crash()
			testkit.Eventually(t, "the dead to be taken out", func() bool {
				return members("job_events-3", ring...) == 0 && members("job_events-7", ring...) == 1 &&
					members("jobs-summary", ring...) == python+1
			})
			testkit.Eventually(t, "nothing to be left of the dead", func() bool {
				n := 0
				for _, r := range ring {
					n += len(keys(r, "edgerelay:*"))
				}
				return n == 2*hosts // the roster and the beat of the node that lives, on each host
			})
			testkit.Eventually(t, "an event to arrive", func() bool {
				_, err := alive.Publish(context.Background(), "job_events-7", []byte("x"))
				return err == nil && len(sink.Texts("job_events-7")) > 0
			})
			if r := alive.Health().Repairs; r != 0 {
				t.Errorf("%d of the living node's memberships had to be put back", r)
			}
			if err := alive.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
			for _, r := range ring {
				if left := keys(r, "edgerelay:*"); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
			}
		})
	}
}

// A node that is alone takes its own predecessor out.
func TestSuccessorRemovesItsPredecessor(t *testing.T) {
	server := peers.StartRedis(t)
	s := settings(server)
	dead, _ := startQuick(t, s, "jobs-summary", "jobs-status_changed")
	if _, err := dead.Publish(context.Background(), "jobs-summary", []byte("x")); err != nil {
		t.Fatal(err)
	}
	dead.Crash()
	server.Do("ZADD", "asgi"+server.Do("SRANDMEMBER", "edgerelay:nodes:asgi").(string), 1, "unread")
	_, _ = startQuick(t, s, "jobs-summary")
	testkit.Eventually(t, "the predecessor to be taken out", func() bool {
		return members("jobs-summary", server) == 1 && members("jobs-status_changed", server) == 0 &&
			len(keys(server, "asgispecific*")) == 0
	})
}

// Nodes that live stay, though Redis loses everything or does not answer for longer than a beat lasts.
func TestLiveNodesAreKept(t *testing.T) {
	server := peers.StartRedis(t, "--enable-debug-command", "yes")
	s := settings(server)
	a, _ := startQuick(t, s, "jobs-summary")
	b, _ := startQuick(t, s, "jobs-summary")
	var all []string
	testkit.Eventually(t, "both nodes' beats", func() bool {
		all = slices.Sorted(slices.Values(keys(server, "edgerelay:node:*")))
		return len(all) == 2
	})
	server.Do("FLUSHALL")
	testkit.Eventually(t, "the beats to be back", func() bool {
		return slices.Equal(slices.Sorted(slices.Values(keys(server, "edgerelay:node:*"))), all)
	})
	testkit.Eventually(t, "the memberships to be back", func() bool { return members("jobs-summary", server) == 2 })
	repairs := a.Health().Repairs + b.Health().Repairs
	server.Do("DEBUG", "SLEEP", "0.8")
	for until := time.Now().Add(time.Second); time.Now().Before(until); {
		if n := members("jobs-summary", server); n != 2 {
			t.Fatalf("%d members, want 2", n)
		}
	}
	if n := a.Health().Repairs + b.Health().Repairs - repairs; n != 0 {
		t.Errorf("%d memberships were taken away and had to be put back", n)
	}
}
