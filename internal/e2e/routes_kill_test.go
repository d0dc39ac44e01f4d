package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// A node with users of a route is killed under load, and started again. The clients of the other node lose no event,
// and see each of the dead node's users leave once; the webhook tells of each at least once.
func TestNodeOfARouteIsKilled(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var calls []string
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		calls = append(calls, string(body))
	}))
	t.Cleanup(site.Close)
	redis := peers.StartRedis(t)
	config := routesOn("redis "+redis.URL, "route /text/{room}/ {\ngroups r_{room}\non x.y text text\n"+
		"on presence.leave json left=user\npresence {\ngrace 1s\nwebhook "+site.URL+" {\nusers on\n}\n}\n}\n")
	nodes := []*peers.Relay{peers.StartRelay(t, config), peers.StartRelay(t, config)}
	const each2 = 20
	crowd := make([]*routeClient, 2*each2)
	if err := each(2*each2, func(i int) (err error) {
		crowd[i], err = dialRoute(nodes[i/each2], "/text/1/")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "all users", func() error {
		if text := fetch(t, nodes[0].Admin+"/edgerelay/presence?group=r_1"); !strings.Contains(text, `"count":40`) {
			return fmt.Errorf("%.100s", text[max(0, len(text)-100):])
		}
		return nil
	})
	emitter := peers.StartEmitter(t, redis.URL)
	wait := emitter.PaceMessages("r_1", map[string]any{"type": "x.y"}, 1, 2000, 2*time.Millisecond)
	testkit.Eventually(t, "events", func() bool { seen, _, _ := crowd[0].numbers(); return len(seen) > 100 })
	nodes[1].Kill()
	nodes[1].Restart(config)
	late, err := dialRoute(nodes[1], "/text/1/")
	if err != nil {
		t.Fatal(err)
	}
	wait()
	for _, c := range crowd[:each2] {
		testkit.EventuallyWithin(t, testkit.Scale(60*time.Second), "the leaves", func() error {
			c.mu.Lock()
			defer c.mu.Unlock()
			if len(c.odd) < each2 {
				return fmt.Errorf("%d leaves", len(c.odd))
			}
			return nil
		})
		c.mu.Lock()
		left := map[string]int{}
		for _, f := range c.odd {
			left[f]++
		}
		if len(left) != each2 || len(c.odd) != each2 || len(c.seen) != 2000 {
			t.Errorf("%d leaves of %d users, %d events", len(c.odd), len(left), len(c.seen))
		}
		for i, n := range c.seen {
			if n != i+1 {
				t.Errorf("event %d at %d", n, i)
				break
			}
		}
		c.mu.Unlock()
	}
	if seen, _, ended := late.numbers(); len(seen) == 0 || ended != nil {
		t.Errorf("the restarted node: %d events, %v", len(seen), ended)
	}
	testkit.Eventually(t, "the webhooks", func() error {
		mu.Lock()
		defer mu.Unlock()
		if n := strings.Count(strings.Join(calls, ""), `"left"`); n < each2 {
			return fmt.Errorf("%d users have left", n)
		}
		return nil
	})
}
