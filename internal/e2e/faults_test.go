package e2e

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
)

// The figures of docs/reliability.md are those of -crowd 1000 -run TestFaults -v.
var crowdSize = flag.Int("crowd", 1000, "clients in TestFaults, of each lane")

// fault is something that befalls a Redis.
type fault struct {
	name string
	// strike makes it so, mend undoes it after lasts; without mend it is over at once.
	strike, mend func(*lane)
	lasts        time.Duration
	// counted: it may be over before anybody looks, and is seen in the counters.
	counted bool
	// slow: it takes its time, and is to be seen from its end on.
	slow bool
	// held: it strikes while events wait in Redis, because the link to it stalls.
	held bool
	// lossless: Redis keeps its messages, so that every event that was accepted arrives.
	lossless bool
	// twoMasters: for a while emitters can send to both, so that one event may come behind another.
	twoMasters bool
}

// TestFaults is a Redis' bad days, under a crowd of clients and steady traffic from a real emitter. In each no client
// is closed, the state is soon to be seen everywhere, deliveries resume by themselves, and nothing comes twice, or out
// of order where there is one master.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, l := range []struct {
		name   string
		start  func(*testing.T) *lane
		faults []fault
	}{
		{"a Redis that keeps nothing", newLane, []fault{
			{name: "FLUSHALL", counted: true, strike: func(l *lane) { l.do("FLUSHALL") }},
			{name: "AWX's wipe at its start", counted: true, strike: func(l *lane) {
				if l.emitter.WipeGroups(l.redis.URL) == 0 {
					l.t.Fatal("there was nothing to wipe")
				}
			}},
			{
				name: "CLIENT KILL", counted: true, held: true, lossless: true,
				strike: func(l *lane) { l.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") },
			},
			{
				name: "kill -9, restarted at once", counted: true,
				strike: func(l *lane) { l.redis.Kill(); l.redis.Restart() },
			},
			{
				name: "kill -9, restarted after 2 s", lasts: 2 * time.Second,
				strike: func(l *lane) { l.redis.Kill() }, mend: func(l *lane) { l.redis.Restart() },
			},
		}},
		{"a Redis that keeps all", newKeepingLane, []fault{
			{
				name: "kill -9 with appendonly, restarted at once", counted: true, held: true, lossless: true,
				strike: func(l *lane) { l.redis.Kill(); l.redis.Restart() },
			},
			{
				name: "DEBUG SLEEP 5", lasts: 5 * time.Second, lossless: true,
				strike: func(l *lane) { l.begin("DEBUG", "SLEEP", "5") }, mend: (*lane).await,
			},
			{
				name: "out of memory (noeviction)", lasts: 2 * time.Second, held: true, lossless: true,
				strike: func(l *lane) { l.do("CONFIG", "SET", "maxmemory", "1") },
				mend:   func(l *lane) { l.do("CONFIG", "SET", "maxmemory", "0") },
			},
			{
				name: "made a read-only replica", lasts: 2 * time.Second, held: true, lossless: true,
				strike: func(l *lane) { l.do("REPLICAOF", "127.0.0.1", "1") },
				mend:   func(l *lane) { l.do("REPLICAOF", "NO", "ONE") },
			},
		}},
		{"a link that is bad", newGuardedLane, []fault{
			{
				name: "the link to Redis stalls for 4 s", lasts: 4 * time.Second, lossless: true,
				strike: func(l *lane) { l.link.Stall() }, mend: func(l *lane) { l.link.Resume() },
			},
			{
				name: "password changed, the relay told by a reload after 3 s", lasts: 3 * time.Second, held: true,
				lossless: true,
				strike: func(l *lane) {
					l.do("CONFIG", "SET", "requirepass", "new")
					l.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
				},
				mend: func(l *lane) {
					if err := l.relay.Load(l.caddyfile("new")); err != nil {
						l.t.Fatal(err)
					}
				},
			},
		}},
		{"a Redis that Sentinel watches", newWatchedLane, failovers},
	} {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			lane := l.start(t)
			for _, f := range l.faults {
				t.Run(f.name, func(t *testing.T) {
					lane.t = t
					lane.suffer(f)
				})
			}
		})
	}
}

// newLane has a Redis as AWX has it.
func newLane(t *testing.T) *lane { return startLane(t, peers.StartRedis(t), "") }

// newKeepingLane has one that writes everything to its disk before it answers.
func newKeepingLane(t *testing.T) *lane {
	return startLane(t, peers.StartRedis(t, "--appendonly", "yes", "--appendfsync", "always", "--enable-debug-command",
		"yes"), "")
}

// newGuardedLane has one with a password; emitter and test have a user of their own.
func newGuardedLane(t *testing.T) *lane {
	redis := peers.StartRedis(t)
	redis.Do("ACL", "SETUSER", "other", "on", ">other", "~*", "&*", "+@all")
	redis.Do("CONFIG", "SET", "requirepass", "old")
	return startLane(t, redis, "old")
}

// evidence is where an operator sees that the channel layer is not well, or was not, and how long that took.
type evidence struct{ admin, site, metrics, log time.Duration }

func (e evidence) String() string {
	return fmt.Sprintf("seen in health %.1f s, log %.1f s, metrics %.1f s", max(e.admin, e.site).Seconds(),
		e.log.Seconds(), e.metrics.Seconds())
}
