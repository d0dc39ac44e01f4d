package redis_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// TestReplayAfterFailover breaks the connection and puts messages that were read back into the channel key, where a
// late
// replica still has them.
func TestReplayAfterFailover(t *testing.T) {
	server := peers.StartRedis(t)
	s := settings(server)
	b, sink := start(t, s, "g")
	ctx := context.Background()
	client := server.Client()
	defer func() { _ = client.Close() }()
	var want []string
	publish := func() {
		t.Helper()
		text := fmt.Sprint(len(want))
		want = append(want, text)
		testkit.Eventually(t, "an event to be sent", func() bool {
			_, err := b.Publish(ctx, "g", []byte(text))
			return err == nil
		})
		testkit.Eventually(t, "the event", func() bool { return slices.Contains(sink.Texts("g"), text) })
	}
	members, err := client.ZRange(ctx, "asgi:group:g", 0, -1).Result()
	if err != nil || len(members) != 1 {
		t.Fatal(members, err)
	}
	key := "asgi" + members[0][:len("specific.")+33]
	for range 3 {
		publish()
		keys, err := client.Keys(ctx, "asgi$*").Result()
		if err != nil || len(keys) != 1 {
			t.Fatal(keys, err)
		}
		read, err := client.ZRangeWithScores(ctx, keys[0], 0, -1).Result()
		if err != nil || len(read) == 0 {
			t.Fatal(read, err)
		}
		reconnects := b.Health().Reconnects
		if _, err := client.TxPipelined(ctx, func(p goredis.Pipeliner) error {
			p.ZAdd(ctx, key, read...)
			p.Do(ctx, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "another connection", func() bool { return b.Health().Reconnects > reconnects })
		publish()
	}
	if got := sink.Texts("g"); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
