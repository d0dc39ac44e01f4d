package backplane_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// tail returns the events of a group as "type text", as far as they have arrived.
func (n *node) tail(group string) func() []string {
	n.t.Helper()
	tail, err := n.hub.Tail(n.t.Context(), group, hub.TailOptions{Raw: true})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(tail.Close)
	var got []string
	return func() []string {
		events, _ := tail.Take()
		for _, ev := range events {
			got = append(got, fmt.Sprintf("%s %s", ev.Type, ev.Text))
		}
		return got
	}
}

// lossesOf returns the number of losses that a node knows of.
func lossesOf(n *node) (times uint64) {
	counts, _ := n.hub.Losses()
	for _, count := range counts {
		times += uint64(count.Times)
	}
	return times
}

// Messages with a type reach relays that know types, whether or not events need AWX's marks. Other relays get the
// events around them, and no losses.
func TestMessagesWithATypeTravelToRelays(t *testing.T) {
	for _, anyEvent := range []bool{false, true} {
		t.Run(fmt.Sprintf("any=%v", anyEvent), func(t *testing.T) {
			a, b, old := newNode(t, memory.NewLayer()), newNode(t, memory.NewLayer()), newNode(t, memory.NewLayer())
			old.plain = true
			for _, n := range []*node{a, b, old} {
				n.hub.ReceiveMessages(true)
				n.start(peersOf(a.server.URL), func(s *backplane.Settings) { s.AnyEvent = anyEvent })
			}
			a.awaitPeers(backplane.EdgeRelay, false, 2)
			atB, atOld := b.tail("chat_1"), old.tail("chat_1")
			testkit.Eventually(t, "events of a", func() bool {
				a.emit("chat_1", "ping")
				return len(atB()) > 0 && len(atOld()) > 0
			})
			before := map[*node]uint64{b: lossesOf(b), old: lossesOf(old)} // while the group was announced
			m := relay.Message{Group: "chat_1", Type: "chat.message", Text: []byte(`{"n": 1}`), Sender: "s"}
			if _, err := a.hub.PublishMessage(context.Background(), m); err != nil {
				t.Fatal(err)
			}
			a.emit("chat_1", "end")
			for name, got := range map[string]func() []string{"b": atB, "old": atOld} {
				testkit.Eventually(t, "the end at "+name, func() bool { return slices.Contains(got(), " end") })
			}
			if got, want := atB(), `chat.message {"type": "chat.message", "n": 1}`; got[len(got)-2] != want {
				t.Errorf("b got %q, want %s before the end", got, want)
			}
			for _, text := range atOld() {
				if text != " ping" && text != " end" {
					t.Errorf("the old relay got %q", text)
				}
			}
			for name, n := range map[string]*node{"b": b, "old": old} {
				if lossesOf(n) != before[n] {
					_, last := n.hub.Losses()
					t.Errorf("%s: a loss: %+v", name, last)
				}
			}
		})
	}
}

// Nodes of AWX get no messages with a type: their consumers would end with an error.
func TestMessagesWithATypeDoNotReachAWX(t *testing.T) {
	const group = "job_events-42"
	own, redisOld, redisNew := peers.StartRedis(t), peers.StartRedis(t), peers.StartRedis(t)
	n := newRedisNode(t, own.URL)
	n.hub.ReceiveMessages(true)
	old := peers.NewClusterNode(t, peers.BroadcastNode, redisOld.URL, secret)
	web := peers.NewClusterNode(t, peers.RelayNode, redisNew.URL, secret)
	old.Serve()
	web.Serve()
	n.start(peersOf(web.URL), func(s *backplane.Settings) { s.AnyEvent = true })
	old.Dial(n.server.URL)
	n.awaitPeers(backplane.Broadcast, false, 1)
	n.awaitPeers(backplane.Relay, true, 1)
	onOld, onNew := peers.StartEmitter(t, redisOld.URL), peers.StartEmitter(t, redisNew.URL)
	onOld.Join(group)
	onNew.Join(group)
	onNew.SendMessage(allGroup, map[string]any{
		"type": "consumer.subscribe", "groups": []string{group}, "origin_channel": "specific.x!1",
	})
	emitter := peers.StartEmitter(t, own.URL)
	testkit.Eventually(t, "a member in the relay's Redis", func() error { return members(emitter, own.URL, group, 1) })

	typed := map[string]any{"type": "chat.message", "n": 1, "needs_relay": true, "text": `{"group": "` + group + `", "message": "{}"}`}
	emitter.SendMessage(group, typed)
	emitter.SendMessage(allGroup, typed)
	m := relay.Message{Group: group, Type: "chat.message", Text: []byte(`{"n": 2}`)}
	if _, err := n.hub.PublishMessage(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if _, err := n.hub.PublishMessage(t.Context(), relay.Message{Group: group, Text: []byte("last"), Sender: "s"}); err != nil {
		t.Fatal(err)
	}
	for name, node := range map[string]*peers.Layer{"broadcast": onOld, "relay": onNew} {
		for {
			var got struct{ Type, Text string }
			if err := json.Unmarshal(node.Receive(testkit.Patience), &got); err != nil {
				t.Fatal(err)
			}
			if got.Text == "last" {
				break
			}
			if got.Type == "chat.message" {
				t.Errorf("the node of the dialect %s got %+v", name, got)
			}
		}
	}
}
