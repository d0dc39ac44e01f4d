package redis_test

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

// A layer with a history behaves as the engine expects from each layer.
func TestSuiteWithHistory(t *testing.T) {
	server := peers.StartRedis(t)
	policy := relay.HistoryPolicy{} // Groups without a history are left when the node closes.
	for letter := 'c'; letter <= 'z'; letter++ {
		policy.Rules = append(policy.Rules, relay.HistoryRule{
			Pattern: string(letter) + "*", HistoryLimits: relay.DefaultHistoryLimits,
		})
	}
	relaytest.Run(t, func(t testing.TB) relay.Broker {
		b := newBroker(t, settings(server))
		if _, err := b.KeepHistory(policy); err != nil {
			t.Fatal(err)
		}
		return b
	})
}

// suiteNode is a node in the conformance suite of histories.
type suiteNode struct {
	*keeper
	server *peers.Redis
	joined map[string]bool
}

// The layer's history behaves as the engine expects from each history.
func TestHistorySuite(t *testing.T) {
	nodes := map[relay.History]*suiteNode{}
	node := func(t testing.TB, server *peers.Redis, limits relay.HistoryLimits) *relaytest.HistoryNode {
		k := &suiteNode{&keeper{Broker: newBroker(t, settings(server))}, server, map[string]bool{}}
		var ahead atomic.Int64
		k.SetHistoryClock(func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
		h, err := k.KeepHistory(relay.HistoryPolicy{
			Rules: []relay.HistoryRule{{Pattern: "job_*", HistoryLimits: limits}},
		})
		if err != nil {
			t.Fatal(err)
		}
		k.history = h
		nodes[h] = k
		run(t, k.Broker, k)
		emitter := newBroker(t, settings(server))
		t.Cleanup(func() { _ = emitter.Close(context.Background()) })
		k.ReceiveMessages(true)
		publish := func(t testing.TB, m relay.Message) (at relay.Position) {
			// Others may publish to the group at the same time, so only events with the text count.
			received := func(n *suiteNode) (count int, last relay.Position) {
				for _, ev := range n.Events() {
					if ev.Group == m.Group && (m.Type != "" || string(ev.Text) == string(m.Text)) {
						count, last = count+1, ev.Position
					}
				}
				return count, last
			}
			before := map[*suiteNode]int{}
			for _, n := range nodes {
				if n.server == server && n.joined[m.Group] {
					before[n], _ = received(n)
				}
			}
			send := emitter.PublishMessage
			if m.Type == "" {
				send = func(ctx context.Context, m relay.Message) (relay.Receipt, error) {
					return emitter.Publish(ctx, m.Group, m.Text)
				}
			}
			if _, err := send(context.Background(), m); err != nil {
				t.Fatal(err)
			}
			for n, count := range before {
				testkit.Eventually(t, "the event", func() bool { now, _ := received(n); return now > count })
			}
			if k.joined[m.Group] {
				_, at = received(k)
			}
			return at
		}
		return &relaytest.HistoryNode{
			PublishMessage: publish,
			History:        h,
			Advance: func(d time.Duration) {
				ahead.Add(int64(d))
				channel, inflight := k.Keys()
				testkit.Eventually(t, "a quiet mailbox", func() bool { return flight(server, channel)+flight(server, inflight) == 0 })
				k.MaintainHistory(t.Context())
			},
			Join: func(groups ...string) {
				k.join(t, groups...)
				for _, g := range groups {
					k.joined[g] = true
				}
			},
			Leave: func(groups ...string) {
				k.Leave(groups...)
				for _, g := range groups {
					delete(k.joined, g)
				}
			},
			Publish: func(t testing.TB, group, text string) relay.Position {
				return publish(t, relay.Message{Group: group, Text: []byte(text)})
			},
		}
	}
	var limits relay.HistoryLimits
	relaytest.RunHistory(t, relaytest.Histories{
		Start: func(t testing.TB, l relay.HistoryLimits) *relaytest.HistoryNode {
			limits = l
			return node(t, peers.StartRedis(t), l)
		},
		Peer: func(t testing.TB, of *relaytest.HistoryNode) *relaytest.HistoryNode {
			return node(t, nodes[of.History].server, limits)
		},
		Excess: 30,
	})
}

// With a history, an event still costs one round trip: the history is written in the next one.
func TestHistoryCostsNoRoundTrip(t *testing.T) {
	server := peers.StartRedis(t)
	proxy := newTap(t, server)
	s := settings(server)
	s.URLs = []string{"redis://" + proxy.Addr + "/0"}
	k := startKeeper(t, s, "g")
	publish := publisher(t, server)
	publish("g", "<0>")
	k.positionOf(t, "g", "<0>")
	channel, inflight := k.Keys()
	testkit.Eventually(t, "a quiet mailbox", func() bool { return flight(server, channel)+flight(server, inflight) == 0 })
	proxy.mu.Lock()
	from := len(proxy.pieces)
	proxy.mu.Unlock()
	const events = 20
	for i := range events {
		text := fmt.Sprintf("<%d>", i+1)
		publish("g", text)
		k.positionOf(t, "g", text)
	}
	proxy.mu.Lock()
	defer proxy.mu.Unlock()
	renames, written, alone := 0, 0, 0
	for _, piece := range proxy.pieces[from:] {
		renames += bytes.Count(piece, []byte("RENAME\r\n"))
		n := bytes.Count(piece, []byte("edgerelay:history:asgi:g:g\r\n"))
		written += n
		if n > 0 && !bytes.Contains(piece, []byte("RENAME\r\n")) && !bytes.Contains(piece, []byte("ZREMRANGEBYRANK\r\n")) {
			alone++
			t.Logf("%q", piece)
		}
	}
	if renames != events || written < events-1 || alone > 1 { // the maintenance of the key
		t.Errorf("%d events in %d round trips, %d writes of the history, %d of them alone", events, renames, written, alone)
	}
}

func TestHistoryOnARing(t *testing.T) {
	servers := []*peers.Redis{peers.StartRedis(t), peers.StartRedis(t)}
	publish := publisher(t, servers...)
	groups := []string{"job_events-1", "job_events-2", "job_events-3", "job_events-4", "job_events-5", "job_events-6"}
	a := startKeeper(t, settings(servers...), groups...)
	bases := make([]relay.Position, len(groups))
	for i, g := range groups {
		publish(g, "<0>")
		bases[i] = a.positionOf(t, g, "<0>")
		publish(g, "<1>")
		a.positionOf(t, g, "<1>")
	}
	a.Crash()
	b := startKeeper(t, settings(servers...), groups...)
	var queries []relay.HistoryQuery
	for i, g := range groups {
		publish(g, "<2>")
		queries = append(queries, relay.HistoryQuery{Group: g, After: bases[i : i+1]})
	}
	for i, page := range b.history.Read(t.Context(), queries) {
		if page.Err != nil || page.Resumable[0] != nil || len(page.Events) < 2 {
			t.Errorf("%s: %v, %v, %d events", groups[i], page.Err, page.Resumable, len(page.Events))
		}
	}
}

// Redis keeps nothing, or something older, across a restart. No resume is complete.
func TestRedisRestartIsAGap(t *testing.T) {
	for _, persists := range []bool{false, true} {
		t.Run(fmt.Sprint("persistence ", persists), func(t *testing.T) {
			var args []string
			if persists {
				args = []string{"--appendonly", "yes", "--appendfsync", "always"}
			}
			server := peers.StartRedis(t, args...)
			publish := publisher(t, server)
			k := startKeeper(t, settings(server), "g")
			publish("g", "<0>")
			at := k.positionOf(t, "g", "<0>")
			channel, inflight := k.Keys()
			testkit.Eventually(t, "a quiet mailbox", func() bool { return flight(server, channel)+flight(server, inflight) == 0 })
			k.expectResume(t, "g", at)
			server.Kill()
			server.Restart()
			testkit.Eventually(t, "the membership", func() bool { return members("g", server) == 1 && k.Health().OK })
			if _, reason := k.resume(t, "g", at); reason == nil {
				t.Error("a resume across a restart is complete")
			}
			if persists {
				return
			}
			next := 1
			testkit.Eventually(t, "complete resumes", func() error {
				text := fmt.Sprintf("<%d>", next)
				next++
				publish("g", text)
				_, reason := k.resume(t, "g", k.positionOf(t, "g", text))
				return reason
			})
		})
	}
}
