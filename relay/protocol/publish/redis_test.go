package publish

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/layer/redis"
)

// redisNode is a node on the layer of channels_redis. It implements [Publisher], and counts the texts that it gets.
type redisNode struct {
	*redis.Broker
	mu   sync.Mutex
	seen map[string]int
}

func (n *redisNode) PublishMessage(ctx context.Context, m relay.Message) (relay.Receipt, error) {
	return n.Publish(ctx, m.Group, m.Text)
}

func (n *redisNode) Deliver(events []relay.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, ev := range events {
		n.seen[string(ev.Text)]++
	}
}

// redisPublisher is a node as the hub shows it.
type redisPublisher struct{ *redisNode }

func (p redisPublisher) Broker() relay.Broker { return p.redisNode.Broker }

func startRedisNode(t *testing.T, server *peers.Redis) *redisNode {
	t.Helper()
	s := redis.DefaultSettings()
	s.URLs = []string{server.URL}
	b, err := redis.New(s, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	n := &redisNode{Broker: b, seen: map[string]int{}}
	if err := b.Start(n); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	if err := b.Join(ctx, "orders-1"); err != nil {
		t.Fatal(err)
	}
	return n
}

// Two nodes get the same messages with the same ids at the same time, and each message arrives once.
func TestIdempotencyAcrossNodes(t *testing.T) {
	server := peers.StartRedis(t)
	nodes := []*redisNode{startRedisNode(t, server), startRedisNode(t, server)}
	var endpoints []*Endpoint
	for _, n := range nodes {
		e, _ := newEndpoint(t)
		e.Publisher = redisPublisher{n}
		endpoints = append(endpoints, e)
	}
	const messages, racers = 20, 4
	var wg sync.WaitGroup
	var mu sync.Mutex
	published, deduplicated := 0, 0
	for i := range messages {
		for r := range racers {
			wg.Go(func() {
				a := post(t, endpoints[r%2], fmt.Sprintf(`{"group": "orders-1", "text": "%d", "id": "%d"}`, i, i))
				if a.StatusCode != 200 || a.Results[0].Members != 2 {
					t.Errorf("%d %s", a.StatusCode, a.body)
				}
				mu.Lock()
				defer mu.Unlock()
				published += a.Published
				deduplicated += a.Deduplicated
			})
		}
	}
	wg.Wait()
	if published != messages || deduplicated != messages*(racers-1) {
		t.Errorf("%d published, %d deduplicated; want %d and %d", published, deduplicated, messages, messages*(racers-1))
	}
	post(t, endpoints[0], `{"group": "orders-1", "text": "last"}`)
	for i, n := range nodes {
		testkit.Eventually(t, "the last message arrives", func() bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.seen["last"] == 1
		})
		for text, times := range n.seen {
			if times != 1 {
				t.Errorf("node %d got %q %d times", i, text, times)
			}
		}
		if len(n.seen) != messages+1 {
			t.Errorf("node %d got %d messages, want %d", i, len(n.seen), messages+1)
		}
	}
}
