package backplane_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// Clients subscribe and leave, links break, and the broker is replaced repeatedly, all at once. Afterwards each
// node receives every event once.
func TestChurn(t *testing.T) {
	leakCheck(t)
	nodes := []*node{newNode(t, memory.NewLayer()), newNode(t, memory.NewLayer()), newNode(t, memory.NewLayer())}
	link := testkit.StartProxy(t, nodes[0].server.Listener.Addr().String())
	nodes[0].start()
	nodes[1].start(peersOf("http://"+link.Addr, nodes[2].server.URL))
	nodes[2].start(peersOf("http://"+link.Addr, nodes[1].server.URL))
	for _, n := range nodes {
		n.awaitSources(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	var churning sync.WaitGroup
	for i, n := range nodes {
		for k := range 3 {
			c := n.client()
			churning.Go(func() {
				for round := 0; ctx.Err() == nil; round++ {
					c.subscribe(n, fmt.Sprint("g-", (round+k)%5), fmt.Sprint("h-", round%7))
				}
				c.s.Close()
			})
		}
		churning.Go(func() {
			for round := 0; ctx.Err() == nil; round++ {
				n.emit(fmt.Sprint("g-", round%5), "x")
				_ = n.plane.Status()
			}
		})
		if i == 2 {
			churning.Go(func() {
				for ctx.Err() == nil {
					if err := n.hub.SetBroker(context.Background(), n.layer.Broker()); err != nil {
						t.Error(err)
					}
					n.plane.Refresh(context.Background())
				}
			})
		}
	}
	churning.Go(func() {
		for ctx.Err() == nil {
			link.Cut()
			select {
			case <-time.After(200 * time.Millisecond): // between cuts there is a link
			case <-ctx.Done():
			}
		}
	})
	churning.Wait()
	for _, n := range nodes {
		n.awaitSources(2)
	}
	want := map[string]bool{}
	var clients []*client
	for _, n := range nodes {
		clients = append(clients, n.client("end-1"))
	}
	for i := range 300 {
		text := fmt.Sprint(i)
		nodes[i%3].emit("end-1", text)
		want[text] = true
	}
	for _, c := range clients {
		c.exactly(t, want)
	}
	// Nobody's wishes are left behind.
	for _, c := range clients {
		c.s.Close()
	}
	for _, n := range nodes {
		testkit.Eventually(t, "no peer wants a group", func() error {
			for _, p := range n.plane.Peers() {
				if p.Groups != 0 {
					return fmt.Errorf("%s: a peer still wants %d groups", n.server.URL, p.Groups)
				}
			}
			return nil
		})
	}
}
