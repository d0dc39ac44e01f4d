package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// redisTimeout bounds the commands of a check.
	redisTimeout = 5 * time.Second
	// slowRedis is a round trip that gets a warning: each batch of events takes a round trip.
	slowRedis = 10 * time.Millisecond
	// nearlyFull is the share of a limit that gets a warning.
	nearlyFull = 0.8
)

// Redis checks a host: reachability, round-trip time, version, and whether memory limits can make Redis evict or reject
// keys of the channel layer.
func Redis(ctx context.Context, host *redis.Client) (list []Finding) {
	const check = "redis"
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	addr := host.Options().Addr
	err := host.Ping(ctx).Err()
	if errors.Is(err, io.EOF) { // a proxy that disconnects at HELLO; the client repeats the connection without HELLO
		err = host.Ping(ctx).Err()
	}
	if err != nil {
		return []Finding{fail(check, unreachable(err), "%s cannot be used: %v", addr, err)}
	}
	var times []time.Duration
	for range 9 {
		began := time.Now()
		if err := host.Ping(ctx).Err(); err != nil {
			return []Finding{fail(check, unreachable(err), "%s no longer responds: %v", addr, err)}
		}
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	if took := times[len(times)/2]; took > slowRedis {
		list = append(list, warn(check, "move Redis closer, or find slow commands with SLOWLOG GET",
			"%s takes %v to respond", addr, took.Round(100*time.Microsecond)))
	} else {
		list = append(list, ok(check, "%s responds within %v", addr, took.Round(10*time.Microsecond)))
	}
	text, err := host.Info(ctx).Result()
	if err != nil {
		return append(list, warn(check, "allow INFO for the Redis user: ACL SETUSER … +info",
			"version and memory of %s are unknown: %v", addr, err))
	}
	info := parseInfo(text)
	return append(list, version(addr, info), memory(addr, info))
}

// unreachable returns the remedy for a connection error.
func unreachable(err error) string {
	switch text := err.Error(); {
	case strings.Contains(text, "WRONGPASS"), strings.Contains(text, "NOAUTH"),
		strings.Contains(text, "invalid password"):
		return "correct user and password in url: redis://user:password@host:6379/0"
	case strings.Contains(text, "NOPERM"):
		return "allow PING and the commands of the channel layer for the Redis user"
	case strings.Contains(text, "permission denied"):
		return "give the relay's system user access to the socket: " +
			"add the user to Redis's group, or set unixsocketperm 770"
	case strings.Contains(text, "no such file"):
		return "set unixsocket in redis.conf to this path, or correct url"
	}
	return "start Redis, or correct its address in channel_layer"
}

// parseInfo reads the response of INFO.
func parseInfo(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), ":"); found {
			info[name] = value
		}
	}
	return info
}

// version warns of a Redis without the notifications that the relay prefers to polling.
func version(addr string, info map[string]string) Finding {
	v := info["redis_version"]
	if major, _, _ := strings.Cut(v, "."); len(major) == 1 && major < "6" {
		return warn("redis", "upgrade to Redis 6; the relay polls older versions 40 times a second, "+
			"and restores memberships later", "%s is version %s", addr, v)
	}
	return ok("redis", "%s is version %s", addr, v)
}

// memory checks the memory limit and the eviction policy.
func memory(addr string, info map[string]string) Finding {
	const check = "redis memory"
	limit, _ := strconv.ParseFloat(info["maxmemory"], 64)
	used, _ := strconv.ParseFloat(info["used_memory"], 64)
	policy := info["maxmemory_policy"]
	mib := func(b float64) string { return fmt.Sprintf("%.1f MiB", b/(1<<20)) }
	switch {
	case limit == 0:
		return ok(check, "%s uses %s, without a limit", addr, mib(used))
	case policy != "noeviction" && used > nearlyFull*limit:
		return fail(check, "raise maxmemory, and set maxmemory-policy noeviction",
			"%s uses %s of %s and evicts keys (%s): events and memberships disappear",
			addr, mib(used), mib(limit), policy)
	case policy != "noeviction":
		return warn(check, "set maxmemory-policy noeviction, or maxmemory 0",
			"%s evicts keys when memory is full (%s): events and memberships may disappear", addr, policy)
	case used > nearlyFull*limit:
		return fail(check, "raise maxmemory, or find the largest keys with redis-cli --bigkeys",
			"%s uses %s of %s; a full Redis rejects emitters' events", addr, mib(used), mib(limit))
	}
	return ok(check, "%s uses %s of %s", addr, mib(used), mib(limit))
}

// Access checks whether the user has the rights that the channel layer needs, and whether Redis notifies of changes.
// The check writes keys of its own under the prefix and deletes them; they also expire.
func Access(ctx context.Context, host *redis.Client, prefix string) []Finding {
	const check = "redis access"
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	addr, name := host.Options().Addr, strings.ToLower(rand.Text())
	group, channel, inflight := prefix+":group:edgerelay-doctor-"+name, prefix+"specific."+name+"!", prefix+"$"+name
	for _, command := range [][]any{
		{"zadd", group, 1, "x"},
		{"expire", group, 10},
		{"zscore", group, "x"},
		{"zrange", group, 0, -1},
		{"zremrangebyscore", group, 0, 0},
		{"zrem", group, "x"},
		{"zadd", channel, 1, "x"},
		{"expire", channel, 10},
		{"zcount", channel, "-inf", "+inf"},
		{"exists", channel},
		{"rename", channel, inflight},
		{"zrange", inflight, 0, 0, "withscores"},
		{"zremrangebyrank", inflight, 0, 0},
		{"del", channel, inflight, group},
	} {
		err := host.Do(ctx, command...).Err()
		if err == nil || errors.Is(err, redis.Nil) || strings.Contains(err.Error(), "no such key") {
			continue
		}
		return []Finding{denied(check, addr, prefix, strings.ToUpper(command[0].(string)), command[1], err)}
	}
	list := []Finding{ok(check, "%s allows all commands of the channel layer", addr)}
	conn := host.Conn()
	defer func() { _ = conn.Close() }()
	if err := conn.Do(ctx, "client", "tracking", "on", "bcast", "noloop", "prefix", group).Err(); err != nil {
		return append(list, warn("redis notices",
			"upgrade to Redis 6, and allow CLIENT and HELLO for the Redis user: ACL SETUSER … +client +hello",
			"%s does not notify of changes, so the relay polls: %v", addr, err))
	}
	_ = conn.Do(ctx, "client", "tracking", "off").Err()
	return append(list, ok("redis notices", "%s notifies of changes", addr))
}

// denied is the finding about a command that failed.
func denied(check, addr, prefix, command string, key any, err error) Finding {
	switch text := err.Error(); {
	case strings.Contains(text, "NOPERM"):
		return fail(check, fmt.Sprintf("allow the command: ACL SETUSER … ~%s* ~edgerelay:* "+
			"+@sortedset +@keyspace +@connection +@scripting +get +set", prefix), "%s denies %s %v", addr, command, key)
	case strings.HasPrefix(text, "OOM"):
		return fail(check, "raise maxmemory", "%s is full and rejects writes", addr)
	case strings.HasPrefix(text, "READONLY"):
		return fail(check, "set url to the primary", "%s is a read-only replica", addr)
	}
	return fail(check, "correct the cause that the error names", "%s: %s failed: %v", addr, command, err)
}
