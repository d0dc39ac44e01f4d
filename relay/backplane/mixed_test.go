package backplane_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/backplane"
)

const allGroup = "broadcast-group_send"

// emitOld emits as AWX 9 to 21 does: the event, and a wrapped copy for other nodes.
func emitOld(t testing.TB, l *peers.Layer, group, text string) {
	t.Helper()
	wrapped, err := json.Marshal(map[string]string{"group": group, "message": text})
	if err != nil {
		t.Fatal(err)
	}
	l.SendMessage(group, map[string]any{"type": "internal.message", "text": text})
	l.SendMessage(allGroup, map[string]any{"type": "internal.message", "text": string(wrapped)})
}

// awaitPeer waits until a node is connected, in the given dialect, to as many peers as said, and has
// found out about their layers.
func (n *node) awaitPeers(dialect backplane.Dialect, dialled bool, want int) {
	n.t.Helper()
	testkit.Eventually(n.t, "peers of a dialect", func() error {
		got := 0
		for _, p := range n.plane.Peers() {
			if p.State == backplane.StateConnected && p.Dialect == dialect && (p.URL != "") == dialled {
				got++
			}
		}
		if got != want {
			return fmt.Errorf("%s has %d %s peers, want %d: %+v", n.server.URL, got, dialect, want, n.plane.Peers())
		}
		return nil
	})
}

// heard collects what a Python client of a group gets, until every wanted text came; each must come once.
func heard(t testing.TB, l *peers.Layer, want ...string) {
	t.Helper()
	left := map[string]bool{}
	for _, w := range want {
		left[w] = true
	}
	for len(left) > 0 {
		var m struct{ Type, Text string }
		if err := json.Unmarshal(l.Receive(10*time.Second), &m); err != nil {
			t.Fatal(err)
		}
		if m.Type != "internal.message" {
			continue
		}
		if !left[m.Text] {
			t.Fatalf("a Python client got %q, which is not wanted (any more); %d are left", m.Text, len(left))
		}
		delete(left, m.Text)
	}
}

// numbered makes texts like a-0, a-1.
func numbered(name string, n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf(`{"from": "%s", "n": %d}`, name, i))
	}
	return list
}

func set(lists ...[]string) map[string]bool {
	m := map[string]bool{}
	for _, l := range lists {
		for _, s := range l {
			m[s] = true
		}
	}
	return m
}

func join(lists ...[]string) (all []string) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

func TestMixedClusterEachToEach(t *testing.T) {
	const group = "job_events-42"
	redisA, redisB, redisOld, redisNew := peers.StartRedis(t), peers.StartRedis(t), peers.StartRedis(t), peers.StartRedis(t)
	a, b := newRedisNode(t, redisA.URL), newRedisNode(t, redisB.URL)
	old := peers.NewClusterNode(t, peers.BroadcastNode, redisOld.URL, secret)
	web := peers.NewClusterNode(t, peers.RelayNode, redisNew.URL, secret)
	old.Serve()
	web.Serve()
	all := peersOf(a.server.URL, b.server.URL, old.URL, web.URL)
	a.start(all)
	b.start(all)
	old.Dial(a.server.URL, b.server.URL)
	web.Dial(a.server.URL, b.server.URL)
	for _, n := range []*node{a, b} {
		n.awaitPeers(backplane.Broadcast, true, 1)
		n.awaitPeers(backplane.Broadcast, false, 1)
		n.awaitPeers(backplane.Relay, true, 1)
		n.awaitPeers(backplane.Relay, false, 1)
		n.awaitSources(3) // the other relay, the old node that we read, the new node that feeds us
	}
	onA, onB := a.client(group), b.client(group)
	onOld, onNew := peers.StartEmitter(t, redisOld.URL), peers.StartEmitter(t, redisNew.URL)
	onOld.Join(group)
	onNew.Join(group)
	onNew.SendMessage(allGroup, map[string]any{"type": "consumer.subscribe", "groups": []string{group}, "origin_channel": "specific.x!1"})
	emitA, emitB := peers.StartEmitter(t, redisA.URL), peers.StartEmitter(t, redisB.URL)
	// The subscriptions must have arrived: at the relays from the Python web node, at the Python task node from the
	// relays.
	for _, n := range []*node{a, b} {
		testkit.Eventually(t, "the web node's interest", func() error {
			for _, p := range n.plane.Peers() {
				if p.URL == web.URL && p.Groups == 2 { // the group, and metrics
					return nil
				}
			}
			return fmt.Errorf("%s has not heard what the web node wants", n.server.URL)
		})
		testkit.Eventually(t, "members in the new Redis", func() error { return members(onNew, redisNew.URL, group, 3) })
		testkit.Eventually(t, "members in Redis A", func() error { return members(emitA, redisA.URL, group, 1) })
		testkit.Eventually(t, "members in Redis B", func() error { return members(emitB, redisB.URL, group, 1) })
	}

	const count = 50
	fromA, fromAnew, fromB := numbered("A, old emitter", count), numbered("A, new emitter", count), numbered("B, published", count)
	fromOld, fromNew := numbered("old node", count), numbered("new node", count)
	for i := range count {
		emitOld(t, emitA, group, fromA[i])
		emitA.Send(peers.Event{Group: group, Text: fromAnew[i]})
		if _, err := b.hub.Publish(context.Background(), group, []byte(fromB[i])); err != nil {
			t.Fatal(err)
		}
		emitOld(t, onOld, group, fromOld[i])
		onNew.Send(peers.Event{Group: group, Text: fromNew[i]})
	}
	every := set(fromA, fromAnew, fromB, fromOld, fromNew)
	onA.exactly(t, every)
	onB.exactly(t, every)
	// An emitter of the new generation makes no copy for nodes of the old one; the two Python nodes speak different
	// dialects.
	heard(t, onOld, join(fromA, fromB, fromOld)...)
	heard(t, onNew, join(fromA, fromAnew, fromB, fromNew)...)

	// A second round ends with nothing between: no copy of the first came late.
	emitOld(t, emitA, group, "last")
	heard(t, onOld, "last")
	heard(t, onNew, "last")
	every["last"] = true
	onA.exactly(t, every)
	onB.exactly(t, every)

	// Metrics of both generations are stored in each relay's Redis.
	emitOld(t, onOld, "metrics", `{"instance": "old", "metrics_namespace": "dispatcher", "metrics": "1"}`)
	onNew.Send(peers.Event{Group: "metrics", Text: `{"instance": "new", "metrics_namespace": "callback_receiver", "metrics": "2"}`})
	for _, r := range []*peers.Redis{redisA, redisB} {
		for key, value := range map[string]string{
			"awx_metrics-dispatcher_instance_old":        "1",
			"awx_metrics-callback_receiver_instance_new": "2",
		} {
			testkit.Eventually(t, "the key in Redis", func() error {
				if got := r.Do("MGET", key).([]any)[0]; got != value {
					return fmt.Errorf("%s is %v, want %s", key, got, value)
				}
				return nil
			})
		}
	}
	for _, n := range []*node{a, b} {
		for _, p := range n.plane.Peers() {
			if p.Dropped != 0 || p.Faults != 0 {
				t.Errorf("%s: %+v", n.server.URL, p)
			}
		}
	}
}

func members(l *peers.Layer, url, group string, least int) error {
	if got := l.Members(url, group); len(got) < least {
		return fmt.Errorf("%s has %d members, want %d", group, len(got), least)
	}
	return nil
}
