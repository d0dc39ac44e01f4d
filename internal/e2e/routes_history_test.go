package e2e

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// Clients connect to a route with a history while a real emitter sends as fast as it can, and rules change meanwhile.
// Each client begins with events from the history and goes on with the live ones: each once and in order, on nodes
// of one Redis, and on nodes with a Redis each that a backplane joins.
func TestRoutesBeginWithHistoryUnderLoad(t *testing.T) {
	t.Parallel()
	for _, joined := range []bool{false, true} {
		t.Run(fmt.Sprint("backplane ", joined), func(t *testing.T) {
			t.Parallel()
			redises := []*peers.Redis{peers.StartRedis(t)}
			redises = append(redises, redises[0])
			if joined {
				redises[1] = peers.StartRedis(t)
			}
			config := func(i int, form string, urls ...string) string {
				more := "history r_* {\ncount 2000\n}\n"
				if joined {
					more += fmt.Sprintf("backplane {\nsecret %q\nretry 1s\nsubscribe_wait 5s\npeers", clusterSecret)
					for _, u := range urls {
						more += " " + u
					}
					more += "\n}\n"
				}
				return "{\nadmin {$ADMIN}\npersist_config off\nedgerelay {\nchannel_layer redis " + redises[i].URL +
					"\nauth none\n" + more + "}\n}\n{$SITE} {\nbind 127.0.0.1\nedgerelay {\n" +
					"route /json/{room}/ {\ngroups r_{room}\n" + routeRules(form) + "first history 100\n}\n" +
					"route /text/{room}/ {\ngroups r_{room}\non x.y text text\nfirst history 1000\n}\n" +
					"}\nedgerelay_health\nrespond \"next\"\n}\n"
			}
			var nodes []*peers.Relay
			for i := range redises {
				nodes = append(nodes, peers.StartRelay(t, config(i, "a", "http://127.0.0.1:9")))
			}
			urls := []string{nodes[0].URL, nodes[1].URL}
			for i, r := range nodes {
				if err := r.Load(config(i, "a", urls...)); err != nil {
					t.Fatal(err)
				}
			}
			if joined {
				for _, r := range nodes {
					(&clusterNode{Relay: r}).awaitSources(t, 1)
				}
			}
			emitter := peers.StartEmitter(t, redises[0].URL)
			const events = 4000
			var crowd []*routeClient
			for i := range 4 { // there from the beginning
				c, err := dialRoute(nodes[i%2], []string{"/json/1/", "/text/1/"}[i/2])
				if err != nil {
					t.Fatal(err)
				}
				crowd = append(crowd, c)
			}
			wait := emitter.PaceMessages("r_1", map[string]any{"type": "x.y"}, 1, events, time.Millisecond)
			done := make(chan struct{})
			go func() { defer close(done); wait() }()
			var mu sync.Mutex
			for i, running := 0, true; running; i++ {
				more := 6
				if len(crowd) > 300 { // On a slow machine, ever more clients would slow the emitter down ever more.
					more = 0
				}
				if err := each(more, func(k int) error {
					c, err := dialRoute(nodes[k%2], []string{"/json/1/", "/text/1/"}[k/2%2])
					if err == nil {
						mu.Lock()
						crowd = append(crowd, c)
						mu.Unlock()
					}
					return err
				}); err != nil {
					t.Fatal(err)
				}
				if i%10 == 9 {
					if err := nodes[i/10%2].Load(config(i/10%2, string("ab"[i/20%2]), urls...)); err != nil {
						t.Error(err)
					}
				}
				select {
				case <-done:
					running = false
				case <-time.After(100 * time.Millisecond):
				}
			}
			t.Log(len(crowd), "clients")
			for i, c := range crowd {
				first := firstNumber(t, c)
				c.checkAll(t, first, events)
				if i < 4 && first != 1 { // it was open before the first event
					t.Errorf("%s began with %d", c.name, first)
				}
			}
		})
	}
}

// firstNumber returns the number of a client's first event, for which it waits.
func firstNumber(t *testing.T, c *routeClient) (first int) {
	t.Helper()
	testkit.Eventually(t, "the first event", func() error {
		seen, _, ended := c.numbers()
		if len(seen) == 0 {
			return errors.Join(fmt.Errorf("%s: no event", c.name), ended)
		}
		first = seen[0]
		return nil
	})
	return first
}
