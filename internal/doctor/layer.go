package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay/hub"
)

const (
	// scanMost and scanWait bound how many keys are looked at, and for how long.
	scanMost = 100_000
	scanWait = 3 * time.Second
)

// scan calls fn with the keys that match, as far as the bounds allow.
func scan(ctx context.Context, host *redis.Client, match string, fn func(key string)) error {
	ctx, cancel := context.WithTimeout(ctx, scanWait)
	defer cancel()
	var cursor uint64
	for seen := 0; ; {
		keys, next, err := host.Scan(ctx, cursor, match, 1000).Result()
		if err != nil {
			return err
		}
		for _, k := range keys {
			fn(k)
		}
		seen += 1000
		if cursor = next; cursor == 0 || seen >= scanMost {
			return nil
		}
	}
}

// Prefix looks for channel layers under another prefix: events that are sent there never come here.
func Prefix(ctx context.Context, hosts []*redis.Client, prefix string) Finding {
	const check = "prefix"
	groups := map[string]int{}
	for _, host := range hosts {
		if err := scan(ctx, host, "*:group:*", func(key string) {
			other, _, _ := strings.Cut(key, ":group:")
			groups[other]++
		}); err != nil {
			return warn(check, "allow the user SCAN to have this checked", "it cannot be seen whether there are other prefixes: %v", err)
		}
	}
	own := groups[prefix]
	delete(groups, prefix)
	var others []string
	for p := range groups {
		others = append(others, p)
	}
	slices.Sort(others)
	remedy := "write the emitters' PREFIX (CHANNEL_LAYERS … CONFIG prefix) into channel_layer redis { prefix … }"
	switch {
	case len(others) == 0:
		return ok(check, "no groups under another prefix than %q", prefix)
	case own == 0:
		return fail(check, remedy, "there are groups under the prefix %q, none under ours, %q", others, prefix)
	}
	return warn(check, remedy+", unless that is another application", "there are groups under the prefix %q besides ours, %q", others, prefix)
}

// Capacity looks for receivers whose key is full, or nearly so: emitters drop events for them.
func Capacity(ctx context.Context, hosts []*redis.Client, prefix string, capacity int) Finding {
	const check = "capacity"
	longest, key := int64(0), ""
	for _, host := range hosts {
		var keys []string
		if err := scan(ctx, host, prefix+"specific.*", func(key string) { keys = append(keys, key) }); err != nil {
			return warn(check, "allow the user SCAN to have this checked", "it cannot be seen how many events wait: %v", err)
		}
		for part := range slices.Chunk(keys, 500) {
			pipe := host.Pipeline()
			var lengths []*redis.IntCmd
			for _, k := range part {
				lengths = append(lengths, pipe.ZCard(ctx, k))
			}
			if _, err := pipe.Exec(ctx); err != nil && !strings.Contains(err.Error(), "WRONGTYPE") {
				return warn(check, "allow the user ZCARD", "it cannot be seen how many events wait: %v", err)
			}
			for i, n := range lengths {
				if n.Val() > longest {
					longest, key = n.Val(), part[i]
				}
			}
		}
	}
	switch {
	case longest >= int64(capacity):
		return fail(check, "a receiver that is gone or hangs: its key expires by itself; else raise capacity here and in the emitters' CHANNEL_LAYERS (AWX: 10000)",
			"%d events wait in %s; with a capacity of %d emitters drop further ones", longest, key, capacity)
	case float64(longest) >= nearlyFull*float64(capacity):
		return warn(check, "raise capacity here and in the emitters' CHANNEL_LAYERS, or look why the receiver is slow", "%d events wait in %s, of %d at most", longest, key, capacity)
	}
	return ok(check, "%d events wait for the receiver with most, of %d at most", longest, capacity)
}

// Peak compares the most events that ever waited for this node with the capacity.
func Peak(peak, capacity int) Finding {
	const check = "capacity peak"
	switch {
	case peak >= capacity:
		return fail(check, "raise capacity here and in the emitters' CHANNEL_LAYERS (AWX: 10000)", "as many as %d events were waiting for this relay at once, with a capacity of %d: emitters have dropped some", peak, capacity)
	case float64(peak) >= nearlyFull*float64(capacity):
		return warn(check, "raise capacity here and in the emitters' CHANNEL_LAYERS (AWX: 10000)", "as many as %d events were waiting for this relay at once, of %d at most", peak, capacity)
	}
	return ok(check, "at most %d events were waiting for this relay at once, of %d", peak, capacity)
}

// AWXCapacity compares the capacity with what AWX's emitters use.
func AWXCapacity(capacity int) Finding {
	if capacity < 10_000 {
		return warn("capacity", "write capacity 10000 into channel_layer redis", "capacity is %d, in AWX's CHANNEL_LAYERS it is 10000: what this relay publishes is dropped sooner than what AWX does", capacity)
	}
	return ok("capacity", "capacity is %d", capacity)
}

// Losses tells of events that clients have missed, or may have.
func Losses(times map[string]hub.LossCount, last hub.LossReport) Finding {
	const check = "losses"
	if last.At.IsZero() {
		return ok(check, "no event is known to be lost")
	}
	var causes []string
	for cause, n := range times {
		if n.Times > 0 {
			causes = append(causes, fmt.Sprintf("%s %d", cause, n.Times))
		}
	}
	slices.Sort(causes)
	return warn(check, "the log lines 'events may have been lost' name groups and remedies; set resync, so that clients are told",
		"clients may have missed events (%s); the last time, %s ago: %s", strings.Join(causes, ", "), time.Since(last.At).Round(time.Second), last.Text)
}

// Wiped tells of memberships that somebody has removed.
func Wiped(repairs uint64, last time.Time) Finding {
	const check = "memberships"
	if repairs == 0 {
		return ok(check, "no membership has vanished from the channel layer")
	}
	when := ""
	if !last.IsZero() {
		when = ", the last one " + last.Format(time.RFC3339)
	}
	return warn(check, "they were put back at once; if that does not coincide with AWX's own starts (it deletes asgi:*), look for FLUSHALL, evictions or a group_expiry that is too short",
		"%d memberships vanished from the channel layer since the relay was started%s", repairs, when)
}

// Ignored tells of messages in this node's groups that the relay does not deliver, since they are of another type.
func Ignored(types []string) Finding {
	const check = "message types"
	if len(types) == 0 {
		return ok(check, "no message of another type than internal.message has come")
	}
	return warn(check, "send events for clients as {\"type\": \"internal.message\", \"text\": …}; "+
		"messages that a consumer of yours reads are no mistake",
		"messages of the types %q have come and were not delivered", types)
}

// Clocks tells of emitters whose clocks are ahead.
func Clocks(skewed, deliveries uint64) Finding {
	if skewed == 0 {
		return ok("emitters' clocks", "no event came from the future")
	}
	return warn("emitters' clocks", "synchronize the clocks of emitters and relay (chrony, systemd-timesyncd); an emitter that is behind has its events expire early",
		"%d of %d deliveries were of events from the future", skewed, deliveries)
}
