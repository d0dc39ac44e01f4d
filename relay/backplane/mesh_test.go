package backplane_test

import (
	"fmt"
	"testing"

	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

func TestThreeLayersRoundRobin(t *testing.T) {
	leakCheck(t)
	nodes := []*node{newNode(t, memory.NewLayer()), newNode(t, memory.NewLayer()), newNode(t, memory.NewLayer())}
	mesh(t, nodes)
	var clients []*client
	for _, n := range nodes {
		clients = append(clients, n.client("jobs-status_changed"), n.client("jobs-status_changed", "job_events-7"))
	}
	want := map[string]bool{}
	for i := range 3000 {
		text := fmt.Sprintf(`{"n": %d}`, i)
		nodes[i%3].emit("jobs-status_changed", text)
		want[text] = true
	}
	for _, c := range clients {
		c.exactly(t, want)
	}
	nodes[1].emit("job_events-7", "end")
	for i, c := range clients {
		if i%2 == 1 {
			want["end"] = true
			c.exactly(t, want)
			delete(want, "end")
		} else {
			c.once(t, want)
		}
	}
}

func TestSharedLayersDeliverOnce(t *testing.T) {
	leakCheck(t)
	x, y := memory.NewLayer(), memory.NewLayer()
	nodes := []*node{newNode(t, x), newNode(t, x), newNode(t, y), newNode(t, y)}
	mesh(t, nodes)
	var clients []*client
	for _, n := range nodes {
		clients = append(clients, n.client("jobs-summary"))
	}
	want := map[string]bool{}
	for i := range 400 {
		text := fmt.Sprintf(`{"n": %d}`, i)
		nodes[i%4].emit("jobs-summary", text)
		want[text] = true
	}
	for _, c := range clients {
		c.exactly(t, want)
	}
	// Of two nodes with one layer, one is listened to; when it goes, the other is.
	nodes[0].close()
	for _, n := range nodes[2:] {
		n.awaitSources(1)
	}
	after := nodes[2].client("jobs-summary", "job_events-1")
	nodes[1].emit("job_events-1", "after")
	after.exactly(t, map[string]bool{"after": true})
}
