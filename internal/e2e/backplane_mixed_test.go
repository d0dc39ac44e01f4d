package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// Two relays and a Python node of each generation have a Redis each. Every event reaches, once, every client that
// its emitter's dialect can reach.
func TestBackplaneMixedGenerations(t *testing.T) {
	const group, everyone = "job_events-42", "broadcast-group_send"
	redises := []*peers.Redis{peers.StartRedis(t), peers.StartRedis(t), peers.StartRedis(t), peers.StartRedis(t)}
	old := peers.NewClusterNode(t, peers.BroadcastNode, redises[2].URL, clusterSecret)
	web := peers.NewClusterNode(t, peers.RelayNode, redises[3].URL, clusterSecret)
	old.Serve()
	web.Serve()
	var nodes []*clusterNode
	for _, r := range redises[:2] {
		nodes = append(nodes, &clusterNode{
			Relay: peers.StartRelay(t, clusterFile(r.URL)), redis: r,
			emitter: peers.StartEmitter(t, r.URL),
		})
	}
	for _, n := range nodes {
		if err := n.Load(clusterFile(n.redis.URL, nodes[0].URL, nodes[1].URL, old.URL, web.URL)); err != nil {
			t.Fatal(err)
		}
	}
	old.Dial(nodes[0].URL, nodes[1].URL)
	web.Dial(nodes[0].URL, nodes[1].URL)
	var clients []*wstest.Client
	for _, n := range nodes {
		n.awaitSources(t, 3) // the other relay, the node that is read, the node that feeds
		clients = append(clients, subscriber(t, n.URL, peers.Login{CSRF: "t", Session: "s"}, group))
	}
	// A task node hears only of subscriptions that are made while it is connected: AWX's web nodes announce each once.
	for _, n := range nodes {
		testkit.Eventually(t, "a connection to the Python web node", func() error {
			list, err := n.peers()
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(list,
				func(p peerState) bool { return p.URL == web.URL && p.State == "connected" }) {
				return fmt.Errorf("%s has %+v", n.URL, list)
			}
			return nil
		})
	}
	onOld, onNew := peers.StartEmitter(t, redises[2].URL), peers.StartEmitter(t, redises[3].URL)
	onOld.Join(group)
	onNew.Join(group)
	onNew.SendMessage(everyone, map[string]any{
		"type": "consumer.subscribe", "groups": []string{group},
		"origin_channel": "specific.page!1",
	})
	// The wishes have arrived: of the relays at the Python task node, of the Python web node at the relays.
	testkit.Eventually(t, "memberships", func() error {
		for l, least := range map[*peers.Layer]int{onNew: 3, nodes[0].emitter: 1, nodes[1].emitter: 1} {
			url := map[*peers.Layer]string{
				onNew: redises[3].URL, nodes[0].emitter: redises[0].URL,
				nodes[1].emitter: redises[1].URL,
			}[l]
			if got := l.Members(url, group); len(got) < least {
				return fmt.Errorf("%d members of %s at %s, want %d", len(got), group, url, least)
			}
		}
		for _, n := range nodes {
			list, err := n.peers()
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(list, func(p peerState) bool { return p.URL == web.URL && p.Groups == 2 }) {
				return fmt.Errorf("%s does not know what the Python web node wants: %+v", n.URL, list)
			}
		}
		return nil
	})
	emitOld := func(l *peers.Layer, text string) {
		wrapped, err := json.Marshal(map[string]string{"group": group, "message": text})
		if err != nil {
			t.Fatal(err)
		}
		l.SendMessage(group, map[string]any{"type": "internal.message", "text": text})
		l.SendMessage(everyone, map[string]any{"type": "internal.message", "text": string(wrapped)})
	}
	relays, toOld, toNew := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for i := range 25 {
		for _, e := range []struct {
			name     string
			emit     func(text string)
			old, new bool
		}{
			{"old emitter beside a relay", func(s string) { emitOld(nodes[0].emitter, s) }, true, true},
			{
				"new emitter beside a relay", func(s string) { nodes[0].emitter.Send(peers.Event{Group: group, Text: s}) },
				false, true,
			},
			{"admin API of a relay", func(s string) { publishHTTP(t, nodes[1].Relay, group, s) }, true, true},
			{"old node", func(s string) { emitOld(onOld, s) }, true, false},
			{"new node", func(s string) { onNew.Send(peers.Event{Group: group, Text: s}) }, false, true},
		} {
			text := fmt.Sprintf(`{"from":%q,"n":%d}`, e.name, i)
			e.emit(text)
			relays[text] = true
			if e.old {
				toOld[text] = true
			}
			if e.new {
				toNew[text] = true
			}
		}
	}
	for i, c := range clients {
		texts, err := watch(c, len(relays))
		if err != nil {
			t.Errorf("client of relay %d: %v", i, err)
		}
		for _, text := range texts {
			if !relays[text] {
				t.Errorf("client of relay %d: %s is not wanted, or came twice", i, text)
			}
			relays[text] = false
		}
		for text := range relays {
			if relays[text] {
				t.Errorf("client of relay %d: %s did not come", i, text)
			}
			relays[text] = true
		}
	}
	for name, c := range map[string]struct {
		layer *peers.Layer
		want  map[string]bool
	}{"old": {onOld, toOld}, "new": {onNew, toNew}} {
		for len(c.want) > 0 {
			var m struct{ Text string }
			if err := json.Unmarshal(c.layer.Receive(patience), &m); err != nil {
				t.Fatal(err)
			}
			if !c.want[m.Text] {
				t.Fatalf("client of the %s node: %s is not wanted, or came twice", name, m.Text)
			}
			delete(c.want, m.Text)
		}
	}
}
