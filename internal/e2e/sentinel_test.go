package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// newWatchedLane has a master with two replicas and three sentinels, which emitter and relay ask.
func newWatchedLane(t *testing.T) *lane {
	master := peers.StartRedis(t)
	replicas := []*peers.Redis{peers.StartReplica(t, master), peers.StartReplica(t, master)}
	sentinels := peers.StartSentinels(t, "mymaster", master, len(replicas), 3, "")
	l := &lane{
		t: t, redis: master, admin: master.Client(),
		watched: &watched{sentinels: sentinels, servers: append(replicas, master)},
	}
	t.Cleanup(func() { _ = l.admin.Close() })
	l.hosts = func(string) string {
		return "sentinel {\nmaster mymaster\naddresses " + strings.Join(sentinels.Addrs, " ") + "\n}"
	}
	l.emitter = peers.StartLayer(t, peers.CoreLayer, map[string]any{
		"hosts":    []any{map[string]any{"master_name": "mymaster", "sentinels": sentinels.Pairs()}},
		"capacity": 10000, "group_expiry": 157784760,
	})
	l.people("")
	return l
}

// watched is what Sentinel watches over.
type watched struct {
	sentinels *peers.Sentinels
	servers   []*peers.Redis
}

// promoted waits until there is another master than before, and talks to that from then on.
func (l *lane) promoted() {
	l.t.Helper()
	before := l.redis
	testkit.Eventually(l.t, "a promotion", func() error {
		addr := l.watched.sentinels.Master()
		for _, r := range l.watched.servers {
			if r.Addr == addr && r != before {
				l.redis = r
				return nil
			}
		}
		return fmt.Errorf("the master is still %s", addr)
	})
	_ = l.admin.Close()
	l.admin = l.redis.Client()
	testkit.Eventually(l.t, "the new master to take writes", func() error {
		if info := fmt.Sprint(l.do("INFO", "replication")); !strings.Contains(info, "role:master") {
			return fmt.Errorf("%s", info)
		}
		return nil
	})
}

// failovers are the faults of such a lane. The first one comes first: Sentinel does not hurry to a second of its own
// accord.
var failovers = []fault{
	{
		name: "Sentinel: the master is killed (down-after 0.5 s)", lasts: 500 * time.Millisecond,
		strike: func(l *lane) { l.redis.Kill() },
		mend:   (*lane).promoted,
	},
	{
		name: "Sentinel: SENTINEL FAILOVER", counted: true, slow: true, twoMasters: true,
		strike: func(l *lane) {
			sentinel := goredis.NewSentinelClient(&goredis.Options{
				Addr: l.watched.sentinels.Addrs[0], MaxRetries: -1,
				DisableIdentity: true,
			})
			defer sentinel.Close()
			testkit.Eventually(l.t, "the other replica to be fit", func() error {
				return sentinel.Failover(context.Background(), l.watched.sentinels.Name).Err()
			})
			l.promoted()
		},
	},
}
