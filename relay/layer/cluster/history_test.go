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
	"github.com/edgerelay/edgerelay/relay/history/stream"
	"github.com/edgerelay/edgerelay/relay/internal/asgi"
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
		n.ReceiveMessages(true)
		publish := func(t testing.TB, group, text string, send func() (relay.Receipt, error)) (p relay.Position) {
			before := len(n.sink.Texts(group))
			if _, err := send(); err != nil {
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
		suite.Publish = func(t testing.TB, group, text string) relay.Position {
			return publish(t, group, text, func() (relay.Receipt, error) {
				return n.Publish(context.Background(), group, []byte(text))
			})
		}
		suite.PublishMessage = func(t testing.TB, m relay.Message) relay.Position {
			text, err := asgi.Object(&m)
			if err != nil {
				t.Fatal(err)
			}
			return publish(t, m.Group, string(text), func() (relay.Receipt, error) { return n.PublishMessage(context.Background(), m) })
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

// Events with a type keep type and sender, live and after an interruption, and are ignored while they are not wanted.
func TestTypesAndSenders(t *testing.T) {
	t.Parallel()
	c := peers.StartRedisCluster(t, 3, 0)
	n := startHistory(t, settings(c.Addresses()...), relay.DefaultHistoryLimits, "job_1", "chat_1")
	m := relay.Message{Type: "chat.message", Text: []byte(`{"n": 1.50}`), Sender: "node/1"}
	for _, group := range []string{"job_1", "chat_1"} { // with and without a history
		m.Group = group
		for _, on := range []bool{false, true} {
			n.ReceiveMessages(on)
			if r, err := n.PublishMessage(t.Context(), m); err != nil || r.Members != 1 {
				t.Fatal(r, err)
			}
			if on {
				if _, err := n.PublishMessage(t.Context(), relay.Message{Group: group, Text: []byte("text"), Sender: "node/2"}); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := n.Publish(t.Context(), group, []byte("end")); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, "the end", func() bool {
				texts := n.sink.Texts(group)
				return len(texts) > 0 && texts[len(texts)-1] == "end" && len(texts) == map[bool]int{false: 1, true: 4}[on]
			})
			if types := n.IgnoredTypes(); !on && !slices.Equal(types, []string{"chat.message"}) {
				t.Errorf("ignored types %q", types)
			}
		}
		if types := n.IgnoredTypes(); len(types) > 0 {
			t.Errorf("types %q count as ignored, although they are delivered now", types)
		}
		var got []string
		for _, ev := range n.sink.Events() {
			if ev.Group == group {
				got = append(got, fmt.Sprintf("%s %s %s", ev.Type, ev.Sender, ev.Text))
			}
		}
		want := []string{"  end", `chat.message node/1 {"type": "chat.message", "n": 1.5}`, " node/2 text", "  end"}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", group, got, want)
		}
	}
	if h := n.Health(); h.Ignored != 2 {
		t.Errorf("%d ignored", h.Ignored)
	}
	filled, ok := n.History.(*stream.Store)
	if !ok {
		t.Fatalf("history %T", n.History)
	}
	events := filled.Fill(t.Context(), []stream.Since{{Group: "job_1", Position: relay.Position{Micros: 1}}})[0].Events
	if len(events) != 5 || events[2].Type != m.Type || events[2].Sender != m.Sender || events[3].Sender != "node/2" {
		t.Errorf("filled: %+v", events)
	}
}
