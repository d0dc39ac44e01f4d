package doctor

import (
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/relay"
)

func TestHistory(t *testing.T) {
	expect(t, History(nil), OK, "no group has a history")
	expect(t, History(&relay.HistoryStats{Kind: "sorted_set", Groups: 3}), OK, "3 groups", "sorted set")
	expect(t, History(&relay.HistoryStats{Failed: 2}), Warning, "2 reads or writes")
	expect(t, History(&relay.HistoryStats{Trouble: "NOPERM"}), Failure, "NOPERM", "recovered")
}

func TestHistoryAccess(t *testing.T) {
	r := peers.StartRedis(t)
	expect(t, HistoryAccess(ctx, client(t, r, "", ""), "asgi"), OK)
	if keys := r.Do("KEYS", "*"); len(keys.([]any)) != 0 {
		t.Errorf("the check left %v behind", keys)
	}
	for user, c := range map[string]struct {
		rules string
		level Level
		words []string
	}{
		"documented": {"~asgi* ~edgerelay:* +@all -@admin -@dangerous +info", OK, nil},
		"keys":       {"~asgi* ~edgerelay:node* +@all", Failure, []string{"denies GET", "~edgerelay:history:*"}},
		"info":       {"~edgerelay:* +@all -@dangerous", Failure, []string{"denies INFO", "+info"}},
		"multi":      {"~edgerelay:* +@all -@transaction", Failure, []string{"denies MULTI", "+@transaction"}},
	} {
		args := []any{"ACL", "SETUSER", user, "on", ">secret"}
		for rule := range strings.FieldsSeq(c.rules) {
			args = append(args, rule)
		}
		r.Do(args...)
		expect(t, HistoryAccess(ctx, client(t, r, user, "secret"), "asgi"), c.level, c.words...)
	}
}

func TestHistoryMemory(t *testing.T) {
	r := peers.StartRedis(t)
	c := client(t, r, "", "")
	policy := relay.HistoryPolicy{Rules: []relay.HistoryRule{{
		Pattern: "job_events-*", HistoryLimits: relay.HistoryLimits{Count: 1000, Bytes: 1 << 20, Age: 1},
	}}}
	check := func() Finding { return HistoryMemory(ctx, c, "asgi", policy.Limits) }
	expect(t, check(), OK, "0 histories")
	for i := range 20 {
		var members []redis.Z
		for n := range 100 {
			members = append(members, redis.Z{Score: float64(n + 1), Member: strings.Repeat(fmt.Sprint(n%10), 300) + fmt.Sprint(n)})
		}
		if err := c.ZAdd(ctx, fmt.Sprint("edgerelay:history:asgi:g:job_events-", i), members...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	r.Do("ZADD", "edgerelay:history:asgi:g:former", "1", "x") // has no history any more
	expect(t, check(), OK, "21 histories", "use 0.8 MiB", "at most 28.9 MiB")
	r.Do("CONFIG", "SET", "maxmemory", "100mb")
	expect(t, check(), OK, "of 100.0 MiB")
	r.Do("CONFIG", "SET", "maxmemory", "32mb")
	expect(t, check(), Warning, "of 32.0 MiB", "raise maxmemory")
	r.Do("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
	expect(t, check(), Warning, "volatile-lru", "noeviction")
}
