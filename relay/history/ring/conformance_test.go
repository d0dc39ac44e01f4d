package ring_test

import (
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/history/ring"
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

func TestSuite(t *testing.T) {
	relaytest.RunHistory(t, relaytest.Histories{
		Start: func(_ testing.TB, limits relay.HistoryLimits) *relaytest.HistoryNode {
			var (
				mu      sync.Mutex
				c       = clock{time.Unix(1_764_378_000, 0)}
				members = map[string]bool{}
			)
			r := ring.New(policy(limits), func() time.Time {
				mu.Lock()
				defer mu.Unlock()
				return c.Time
			})
			n := &relaytest.HistoryNode{History: r}
			n.Join = func(groups ...string) {
				mu.Lock()
				for _, g := range groups {
					members[g] = true
				}
				mu.Unlock()
				r.Joined(groups)
			}
			n.Leave = func(groups ...string) {
				mu.Lock()
				for _, g := range groups {
					delete(members, g)
				}
				mu.Unlock()
				r.Left(groups)
			}
			n.Publish = func(_ testing.TB, group, text string) relay.Position {
				mu.Lock()
				member := members[group]
				mu.Unlock()
				if !member {
					return relay.Position{}
				}
				return record(r, group, text)[0]
			}
			n.Advance = func(d time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				c.Time = c.Add(d)
			}
			return n
		},
	})
}

func policy(limits relay.HistoryLimits) relay.HistoryPolicy {
	return relay.HistoryPolicy{Rules: []relay.HistoryRule{{Pattern: "job_*", HistoryLimits: limits}}}
}
