package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// deathNoticed is how long a node that was killed may stay a member of its groups.
const deathNoticed = 75 * time.Second

// A relay is killed. Its clients connect to the other relay at once. The other relay, or the restarted one if there is
// no other, removes the memberships of the dead node.
func TestDeadNodeIsRemovedFromItsGroups(t *testing.T) {
	t.Parallel()
	for name, successor := range map[string]bool{"another relay is there": false, "it is started again": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redis := peers.StartRedis(t)
			emitter := peers.StartEmitter(t, redis.URL)
			dead := peers.StartRelay(t, openSite(redis.URL, ""))
			live := dead
			if !successor {
				live = peers.StartRelay(t, openSite(redis.URL, ""))
			}
			_, wait := spectators(t, dead.URL, "jobs-summary", 50)
			_, _ = spectators(t, dead.URL, "job_events-42", 1)
			// The other node watches from its first beat on.
			testkit.Eventually(t, "the beat of each node", func() error {
				if keys := redis.Do("KEYS", "edgerelay:node:*").([]any); len(keys) != map[bool]int{
					true:  1,
					false: 2,
				}[successor] {
					return fmt.Errorf("%v", keys)
				}
				return nil
			})
			python := "specific." + strings.Repeat("0", 32) + "!x"
			redis.Do("ZADD", "asgi:group:jobs-summary", time.Now().Unix(), python)

			dead.Signal(syscall.SIGSTOP)
			emitter.Send(peers.Event{Group: "job_events-42", Text: `"unread"`},
				peers.Event{Group: "job_events-42", Text: `"unread"`})
			dead.Kill()
			killed := time.Now()
			if successor {
				dead.Restart(openSite(redis.URL, ""))
			}
			wait()
			again, _ := spectators(t, live.URL, "jobs-summary", 50)
			t.Logf("all 50 clients are subscribed again %v after the kill", time.Since(killed).Round(time.Millisecond))
			emitter.Send(peers.Event{Group: "jobs-summary", Text: `"x"`})
			testkit.Eventually(t, "the event reaches the clients", func() error {
				for i, s := range again {
					if s.events.Load() != 1 {
						return fmt.Errorf("client %d has %d", i, s.events.Load())
					}
				}
				return nil
			})
			testkit.EventuallyWithin(t, deathNoticed-time.Since(killed), "the dead node is no member any more",
				func() error {
					if m := emitter.Members(redis.URL, "job_events-42"); len(m) != 0 {
						return fmt.Errorf("job_events-42: %q", m)
					}
					if m := emitter.Members(redis.URL, "jobs-summary"); len(m) != 2 || m[0] != python && m[1] != python {
						return fmt.Errorf("jobs-summary: %q", m)
					}
					return nil
				})
			testkit.Eventually(t, "the unread messages to be counted", func() error {
				if metrics := fetch(t, live.Admin+"/metrics"); !strings.Contains(metrics,
					"edgerelay_lost_events_total{cause=\"dead_node\"} 3\n") {
					return fmt.Errorf("no metric of the two events and the one below")
				}
				return nil
			})
			t.Logf("the dead node is out of its groups %v after the kill", time.Since(killed).Round(time.Millisecond))
		})
	}
}
