package sortedset_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

func TestConformance(t *testing.T) {
	servers := map[relay.History]*peers.Redis{}
	type member struct {
		*node
		groups map[string]bool
	}
	var members []*member
	start := func(t testing.TB, server *peers.Redis, c *clock, limits relay.HistoryLimits) *relaytest.HistoryNode {
		m := &member{newNode(t, server, c, withLimits(limits), pattern("job_*")), map[string]bool{}}
		servers[m.Store] = server
		ctx, cancel := context.WithCancel(context.Background())
		running := make(chan struct{})
		go func() {
			defer close(running)
			m.Run(ctx, 0)
		}()
		t.Cleanup(func() {
			cancel()
			<-running
		})
		members = append(members, m)
		return &relaytest.HistoryNode{
			History: m.Store,
			Join: func(groups ...string) {
				for _, g := range groups {
					received := slices.ContainsFunc(members, func(other *member) bool {
						return servers[other.Store] == server && other.groups[g]
					})
					if !received {
						m.gapBefore(g)
					}
					m.groups[g] = true
				}
				m.Joined(groups)
			},
			Leave: func(groups ...string) {
				for _, g := range groups {
					delete(m.groups, g)
				}
				m.Left(groups)
			},
			Publish: func(t testing.TB, group, text string) (at relay.Position) {
				c.advance(time.Millisecond)
				now := c.now()
				for _, other := range members {
					if servers[other.Store] == server && other.groups[group] {
						ev := other.event(group, text, now)
						other.write(ev)
						if other == m {
							at = ev.Position
						}
					}
				}
				return at
			},
			Advance: func(d time.Duration) {
				testkit.Eventually(t, "gaps are in Redis", func() bool { return m.PendingGapCount() == 0 })
				c.advance(d)
				m.tick()
			},
		}
	}
	clocks := map[*peers.Redis]*clock{}
	relaytest.RunHistory(t, relaytest.Histories{
		Start: func(t testing.TB, limits relay.HistoryLimits) *relaytest.HistoryNode {
			server, c := peers.StartRedis(t), newClock()
			clocks[server] = c
			return start(t, server, c, limits)
		},
		Peer: func(t testing.TB, of *relaytest.HistoryNode) *relaytest.HistoryNode {
			limits, _ := of.Limits("job_1")
			return start(t, servers[of.History], clocks[servers[of.History]], limits)
		},
	})
}
