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
	// redisWait bounds what one check asks of Redis.
	redisWait = 5 * time.Second
	// redisSlow is a round trip that is worth a word: each batch of events takes one.
	redisSlow = 10 * time.Millisecond
	// nearlyFull is the part of a limit from which on it is worth a word.
	nearlyFull = 0.8
)

// Redis checks whether a host can be reached, how fast it answers, how old it is, and whether it may throw away or refuse what the channel
// layer stores.
func Redis(ctx context.Context, host *redis.Client) (list []Finding) {
	const check = "redis"
	ctx, cancel := context.WithTimeout(ctx, redisWait)
	defer cancel()
	addr := host.Options().Addr
	err := host.Ping(ctx).Err()
	if errors.Is(err, io.EOF) { // a proxy that hangs up at HELLO: the next connection goes without
		err = host.Ping(ctx).Err()
	}
	if err != nil {
		return []Finding{fail(check, unreachable(err), "%s cannot be used: %v", addr, err)}
	}
	var times []time.Duration
	for range 9 {
		began := time.Now()
		if err := host.Ping(ctx).Err(); err != nil {
			return []Finding{fail(check, unreachable(err), "%s does not answer any more: %v", addr, err)}
		}
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	if took := times[len(times)/2]; took > redisSlow {
		list = append(list, warn(check, "put Redis nearer, or look what keeps it busy (SLOWLOG GET)", "%s takes %v to answer", addr, took.Round(100*time.Microsecond)))
	} else {
		list = append(list, ok(check, "%s answers within %v", addr, took.Round(10*time.Microsecond)))
	}
	text, err := host.Info(ctx).Result()
	if err != nil {
		return append(list, warn(check, "allow the user INFO (ACL SETUSER … +info) to have version and memory checked", "%s does not say what it is: %v", addr, err))
	}
	info := parseInfo(text)
	return append(list, version(addr, info), memory(addr, info))
}

// unreachable is the remedy of an error to connect.
func unreachable(err error) string {
	switch text := err.Error(); {
	case strings.Contains(text, "WRONGPASS"), strings.Contains(text, "NOAUTH"), strings.Contains(text, "invalid password"):
		return "put the right user and password into url: redis://user:password@host:6379/0"
	case strings.Contains(text, "NOPERM"):
		return "allow the user PING and the commands of the channel layer"
	case strings.Contains(text, "permission denied"):
		return "let the relay's user use the socket: put it into Redis's group, or set unixsocketperm 770"
	case strings.Contains(text, "no such file"):
		return "is unixsocket set in redis.conf, and to this path?"
	}
	return "is Redis running, and is this its address? channel_layer redis { url … }"
}

func parseInfo(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), ":"); found {
			info[name] = value
		}
	}
	return info
}

func version(addr string, info map[string]string) Finding {
	v := info["redis_version"]
	if major, _, _ := strings.Cut(v, "."); len(major) == 1 && major < "6" {
		return warn("redis", "use Redis 6 or newer; this one is polled 40 times a second, and a vanished membership is noticed later", "%s is version %s", addr, v)
	}
	return ok("redis", "%s is version %s", addr, v)
}

func memory(addr string, info map[string]string) Finding {
	const check = "redis memory"
	limit, _ := strconv.ParseFloat(info["maxmemory"], 64)
	used, _ := strconv.ParseFloat(info["used_memory"], 64)
	policy := info["maxmemory_policy"]
	mib := func(b float64) string { return fmt.Sprintf("%.1f MiB", b/(1<<20)) }
	switch {
	case limit == 0:
		return ok(check, "%s uses %s and has no limit", addr, mib(used))
	case policy != "noeviction" && used > nearlyFull*limit:
		return fail(check, "raise maxmemory, and set maxmemory-policy noeviction", "%s uses %s of %s and evicts keys (%s): events and memberships vanish", addr, mib(used), mib(limit), policy)
	case policy != "noeviction":
		return warn(check, "set maxmemory-policy noeviction, or maxmemory 0", "%s evicts keys when it is full (%s): events and memberships may vanish", addr, policy)
	case used > nearlyFull*limit:
		return fail(check, "raise maxmemory, or find what fills it: redis-cli --bigkeys", "%s uses %s of %s; when it is full, it refuses emitters' events", addr, mib(used), mib(limit))
	}
	return ok(check, "%s uses %s of %s", addr, mib(used), mib(limit))
}

// Access checks whether the user may do with the channel layer's keys what the relay does, and whether Redis notifies of changes. It
// uses keys of its own under the prefix, which expire.
func Access(ctx context.Context, host *redis.Client, prefix string) []Finding {
	const check = "redis access"
	ctx, cancel := context.WithTimeout(ctx, redisWait)
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
		switch {
		case err == nil, errors.Is(err, redis.Nil), strings.Contains(err.Error(), "no such key"):
		case strings.Contains(err.Error(), "NOPERM"):
			return []Finding{fail(check, fmt.Sprintf("allow it: ACL SETUSER … ~%s* ~edgerelay:* +@sortedset +@keyspace +@connection +@scripting +get +set", prefix), "%s does not let the user do %s %v", addr, strings.ToUpper(command[0].(string)), command[1])}
		case strings.HasPrefix(err.Error(), "OOM"):
			return []Finding{fail(check, "raise maxmemory", "%s is full and refuses what is written", addr)}
		case strings.HasPrefix(err.Error(), "READONLY"):
			return []Finding{fail(check, "let url name the primary", "%s is a replica and cannot be written to", addr)}
		default:
			return []Finding{fail(check, "see the error", "%s answers %s with: %v", addr, strings.ToUpper(command[0].(string)), err)}
		}
	}
	list := []Finding{ok(check, "%s lets the user do all that the channel layer needs", addr)}
	conn := host.Conn()
	defer func() { _ = conn.Close() }()
	if err := conn.Do(ctx, "client", "tracking", "on", "bcast", "noloop", "prefix", group).Err(); err != nil {
		return append(list, warn("redis notices", "use Redis 6 or newer, and allow the user CLIENT and HELLO (ACL SETUSER … +client +hello)", "%s does not notify of changes and is polled instead: %v", addr, err))
	}
	_ = conn.Do(ctx, "client", "tracking", "off").Err()
	return append(list, ok("redis notices", "%s notifies of changes", addr))
}
