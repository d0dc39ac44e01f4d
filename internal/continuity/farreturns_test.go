package continuity

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/oracle"
	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// A node restarts. Meanwhile, the Redis of its peer restarts as well, without its data and at several moments of the
// node's return, or the peer goes on. The node's clients are told of the events that they have missed.
func TestRedisRestartsWhilePeerIsDown(t *testing.T) {
	near, elsewhere := peers.StartRedis(t), peers.StartRedis(t)
	backplane := func(peer string) string {
		return fmt.Sprintf("history_key a-secret-of-all-nodes-0123456789\nbackplane {\n\tsecret %s\n\tpeers %s\n}",
			"a-long-secret-of-the-backplane-0123456789", peer)
	}
	s := &site{t: t, oracle: oracle.New()}
	a := peers.StartRelay(t, caddyfile(near.URL, backplane("http://127.0.0.1:1")))
	far := s.addNode(caddyfile(elsewhere.URL, backplane(a.URL)))
	if err := a.Load(caddyfile(near.URL, backplane(far.URL))); err != nil {
		t.Fatal(err)
	}
	s.open(20, 6, 2)
	s.await("the subscriptions", func() error {
		for _, c := range s.clients {
			if err := c.Ready(); err != nil {
				return err
			}
		}
		return nil
	})
	e := startEmitter(t, s.oracle, near.URL, "a", 6, 60, 0)
	ctx, cancel := context.WithCancel(t.Context())
	s.churn(ctx)
	returns := scaleOf(t, scale{restarts: 3}, scale{length: time.Minute, restarts: 12}).restarts
	for n := range returns {
		testkit.Pause(nil, 4*time.Second)
		s.setUp(far, false)
		if n%3 == 1 {
			far.Kill()
		} else {
			_ = far.Stop(t, 30*time.Second)
		}
		testkit.Pause(nil, time.Second)
		if n%3 == 2 { // only the node restarts
			s.restart(far)
			continue
		}
		near.Kill()
		first := time.Duration(3-n/3%4) * 300 * time.Millisecond // from here to the return of the node
		testkit.Pause(nil, first)
		back := make(chan struct{})
		go func() {
			defer close(back)
			testkit.Pause(nil, 900*time.Millisecond-first)
			near.Restart()
		}()
		s.restart(far)
		<-back
	}
	testkit.Pause(nil, 2*time.Second)
	cancel()
	e.end(t)
	s.finish()
}
