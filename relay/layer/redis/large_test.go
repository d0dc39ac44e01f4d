package redis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
)

// Whatever happens to a large key, reading its news gives what reading the key gives.
func TestNewsOfALargeKey(t *testing.T) {
	ctx, c := context.Background(), peers.StartRedis(t).Client()
	var known largeKeys
	next := 0
	add := func(n int, score func() float64) {
		var list []goredis.Z
		for range n {
			list = append(list, goredis.Z{Score: score(), Member: fmt.Sprint("message ", next)})
			next++
		}
		if err := c.ZAdd(ctx, "k", list...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	ascending := func() float64 { return float64(1_700_000_000_000_000+next*100) / 1e6 }
	add(largeKey, ascending)
	small := 0
	for range 300 {
		switch rand.N(6) {
		case 0:
			add(1+rand.N(20), ascending)
		case 1: // an emitter whose clock is behind
			add(1, func() float64 { return float64(1_700_000_000_000_000+rand.N(next)*100) / 1e6 })
		case 2:
			c.ZRemRangeByRank(ctx, "k", 0, int64(rand.N(5)))
		case 3:
			c.ZRem(ctx, "k", fmt.Sprint("message ", rand.N(next)))
			add(1, ascending)
		}
		var whole, news keyOf
		whole.read(ctx, c, "k")
		if _, err := whole.take(nil); err != nil {
			t.Fatal(err)
		}
		news.readNews(ctx, c, "k", &known)
		if ok, err := news.take(&known); err != nil {
			t.Fatal(err)
		} else if !ok {
			news.read(ctx, c, "k")
			_, _ = news.take(&known)
		} else if news.before != nil && len(news.rest.Val()) < largeKey/2 {
			small++
		}
		if !slices.Equal(news.messages, whole.messages) {
			t.Fatalf("%d messages, want %d", len(news.messages), len(whole.messages))
		}
	}
	if small == 0 {
		t.Error("no reading was small")
	}
}
