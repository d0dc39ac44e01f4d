package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
)

// History reports whether the histories of groups are kept. stats is nil without a history.
func History(stats *relay.HistoryStats) Finding {
	const check = "history"
	switch {
	case stats == nil:
		return ok(check, "no group has a history, so clients cannot resume after a reconnect")
	case stats.Trouble != "":
		return fail(check, "correct the cause that the text names; until then, clients that reconnect get "+
			`"recovered": false`, "histories are not kept: %s", stats.Trouble)
	case stats.Failed > 0:
		return warn(check, "look for the log lines about the history; the next lines check Redis",
			"histories of %s are kept (%s), and %d reads or writes have failed", plural(stats.Groups, "group"), stats.Kind, stats.Failed)
	}
	return ok(check, "histories of %s are kept (%s)", plural(stats.Groups, "group"), strings.ReplaceAll(stats.Kind, "_", " "))
}

// HistoryAccess checks whether the Redis user has the rights that histories in sorted sets need. The check writes a key
// of its own and deletes it; the key also expires.
func HistoryAccess(ctx context.Context, host *redis.Client, prefix string) Finding {
	const check = "history access"
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	addr, base := host.Options().Addr, "edgerelay:history:"+prefix+":"
	key := base + "g:edgerelay-doctor-" + strings.ToLower(rand.Text())
	for _, command := range [][]any{
		{"get", base + "key"},
		{"set", key, "x", "px", 10_000, "nx"},
		{"del", key},
		{"info", "server"},
		{"zadd", key, 1, "x", 2, "y", 3, "z"},
		{"pexpire", key, 10_000},
		{"zcount", key, "-inf", "+inf"},
		{"zrange", key, 0, -1, "withscores"},
		{"zrangebyscore", key, 1, "+inf", "withscores", "limit", 0, 1},
		{"zrevrange", key, 0, 0, "withscores"},
		{"zrevrangebyscore", key, "+inf", 1, "withscores", "limit", 0, 1},
		{"zremrangebyscore", key, 1, 1},
		{"zremrangebyrank", key, 0, 0},
		{"zrem", key, "z"},
		{"del", key},
	} {
		err := host.Do(ctx, command...).Err()
		if err == nil || errors.Is(err, redis.Nil) {
			continue
		}
		return historyDenied(check, addr, strings.ToUpper(command[0].(string)), command[1], err)
	}
	if _, err := host.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Exists(ctx, key).Err() }); err != nil {
		return historyDenied(check, addr, "MULTI", key, err)
	}
	return ok(check, "%s allows all commands of the history", addr)
}

// historyDenied is the finding about a command of the history that failed.
func historyDenied(check, addr, command string, key any, err error) Finding {
	if strings.Contains(err.Error(), "NOPERM") {
		return fail(check, "allow the command: ACL SETUSER … ~edgerelay:history:* "+
			"+@sortedset +@keyspace +@transaction +get +set +info", "%s denies %s %v", addr, command, key)
	}
	return denied(check, addr, "", command, key, err)
}

// maxMeasuredGroups bounds the histories whose memory is asked for.
const maxMeasuredGroups = 200

// HistoryMemory compares the histories on a host, as they are and at their bounds, with Redis's limit on memory. limits
// are the bounds of a group.
func HistoryMemory(
	ctx context.Context, host *redis.Client, prefix string, limits func(group string) (relay.HistoryLimits, bool),
) Finding {
	const check = "history memory"
	addr := host.Options().Addr
	var groups []string
	base := "edgerelay:history:" + prefix + ":g:"
	if err := scan(ctx, host, base+"*", func(key string) {
		groups = append(groups, strings.TrimPrefix(key, base))
	}); err != nil {
		return warn(check, "allow SCAN for the Redis user", "histories in %s cannot be listed: %v", addr, err)
	}
	most := int64(0)
	for _, group := range groups {
		if l, ok := limits(group); ok {
			most += atBounds(l)
		}
	}
	used := measure(ctx, host, base, groups)
	text, err := host.Info(ctx, "memory").Result()
	if err != nil {
		return warn(check, "allow INFO for the Redis user: ACL SETUSER … +info", "the memory of %s is unknown: %v", addr, err)
	}
	info := parseInfo(text)
	limit, _ := strconv.ParseInt(info["maxmemory"], 10, 64)
	total, _ := strconv.ParseInt(info["used_memory"], 10, 64)
	facts := fmt.Sprintf("%d histories in %s use %s, and at most %s at their bounds", len(groups), addr, mib(used), mib(most))
	switch policy := info["maxmemory_policy"]; {
	case limit == 0:
		return ok(check, "%s", facts)
	case policy != "noeviction":
		return warn(check, "set maxmemory-policy noeviction",
			"%s; Redis may evict them (%s), and clients then cannot resume", facts, policy)
	case float64(total-used+most) > nearlyFull*float64(limit):
		return warn(check, "raise maxmemory, or lower count, size or age of history { … }",
			"%s; with everything else, Redis then uses %s of %s", facts, mib(total-used+most), mib(limit))
	}
	return ok(check, "%s, of %s", facts, mib(limit))
}

// atBounds returns the greatest memory of a group's history in Redis: an entry needs about 115 bytes besides its text,
// and a large text is rounded up by less than a third.
func atBounds(l relay.HistoryLimits) int64 {
	const overhead, shortest = 115, 64
	return int64(l.Bytes)*4/3 + min(int64(l.Count), int64(l.Bytes)/shortest)*overhead
}

// measure returns the memory of histories, extrapolated from the first ones; 0 if unknown.
func measure(ctx context.Context, host *redis.Client, base string, groups []string) (bytes int64) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	n := min(len(groups), maxMeasuredGroups)
	if n == 0 {
		return 0
	}
	pipe := host.Pipeline()
	sizes := make([]*redis.IntCmd, n)
	for i, group := range groups[:n] {
		sizes[i] = pipe.MemoryUsage(ctx, base+group)
	}
	_, _ = pipe.Exec(ctx) // a user without +memory, or an expired key: 0
	for _, size := range sizes {
		bytes += size.Val()
	}
	return bytes * int64(len(groups)) / int64(n)
}

func mib(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }
