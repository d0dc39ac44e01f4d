package cluster_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/layer/cluster"
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

// historyNode is a node of the layer as an engine runs it: events and losses go to the history.
type historyNode struct {
	*cluster.Broker
	relay.History
	sink *sink
}

// Deliver implements [relay.Sink].
func (n *historyNode) Deliver(events []relay.Event) {
	n.Record(events)
	n.sink.Deliver(events)
}

// Lost implements [relay.LossSink].
func (n *historyNode) Lost(l relay.Loss) {
	n.MarkGap(l)
	n.sink.Lost(l)
}

func (n *historyNode) join(t testing.TB, groups ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	if err := n.Broker.Join(ctx, groups...); err != nil {
		t.Fatal(err)
	}
	n.Joined(groups)
}

func (n *historyNode) leave(groups ...string) {
	n.Broker.Leave(groups...)
	n.Left(groups)
}

// Close ends the node.
func (n *historyNode) Close(ctx context.Context) error { return n.Broker.Close(ctx) }

// position returns the position of a text that has arrived, zero if it has not.
func (n *historyNode) position(group, text string) (p relay.Position, arrived bool) {
	for _, ev := range n.sink.Events() {
		if ev.Group == group && string(ev.Text) == text {
			p, arrived = ev.Position, true
		}
	}
	return p, arrived
}

func historyPolicy(limits relay.HistoryLimits) relay.HistoryPolicy {
	return relay.HistoryPolicy{Rules: []relay.HistoryRule{{Pattern: "job_*", HistoryLimits: limits}}}
}

func startHistory(t testing.TB, s cluster.Settings, limits relay.HistoryLimits, groups ...string) *historyNode {
	t.Helper()
	n := &historyNode{Broker: newBroker(t, s), sink: &sink{told: map[string]time.Time{}}}
	h, err := n.KeepHistory(historyPolicy(limits))
	if err != nil {
		t.Fatal(err)
	}
	n.History = h
	if err := n.Start(n); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = n.Close(ctx)
	})
	n.join(t, groups...)
	return n
}

func TestHistorySuite(t *testing.T) {
	t.Parallel()
	c := peers.StartRedisCluster(t, 3, 0)
	var prefixes atomic.Int64
	type node struct {
		*historyNode
		members map[string]bool
		prefix  string
		limits  relay.HistoryLimits
	}
	nodes := map[*relaytest.HistoryNode]*node{}
	start := func(t testing.TB, prefix string, limits relay.HistoryLimits) *relaytest.HistoryNode {
		s := settings(c.Addresses()...)
		s.Prefix = prefix
		n := &node{startHistory(t, s, limits), map[string]bool{}, prefix, limits}
		suite := &relaytest.HistoryNode{History: n.historyNode}
		nodes[suite] = n
		suite.Join = func(groups ...string) {
			n.join(t, groups...)
			for _, g := range groups {
				n.members[g] = true
			}
		}
		suite.Leave = func(groups ...string) {
			n.leave(groups...)
			for _, g := range groups {
				delete(n.members, g)
			}
		}
		suite.Publish = func(t testing.TB, group, text string) (p relay.Position) {
			before := len(n.sink.Texts(group))
			if _, err := n.Publish(context.Background(), group, []byte(text)); err != nil {
				t.Error(err)
				return p
			}
			if !n.members[group] {
				return p
			}
			testkit.Eventually(t, "the event", func() bool {
				return len(n.sink.Texts(group)) > before && slices.Contains(n.sink.Texts(group)[before:], text)
			})
			p, _ = n.position(group, text)
			return p
		}
		return suite
	}
	relaytest.RunHistory(t, relaytest.Histories{
		Start: func(t testing.TB, limits relay.HistoryLimits) *relaytest.HistoryNode {
			return start(t, fmt.Sprintf("edgerelay%d", prefixes.Add(1)), limits)
		},
		Peer: func(t testing.TB, of *relaytest.HistoryNode) *relaytest.HistoryNode {
			return start(t, nodes[of].prefix, nodes[of].limits)
		},
	})
}
