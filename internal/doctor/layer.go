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
	// maxScannedKeys and scanTimeout bound a scan.
	maxScannedKeys = 100_000
	scanTimeout    = 3 * time.Second
)

// scan calls fn with the keys that match, within the bounds.
func scan(ctx context.Context, host *redis.Client, match string, fn func(key string)) error {
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
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
		if cursor = next; cursor == 0 || seen >= maxScannedKeys {
			return nil
		}
	}
}

// Prefix looks for channel layers under another prefix: their events never reach this relay.
func Prefix(ctx context.Context, hosts []*redis.Client, prefix string) Finding {
	const check = "prefix"
	groups := map[string]int{}
	for _, host := range hosts {
		if err := scan(ctx, host, "*:group:*", func(key string) {
			other, _, _ := strings.Cut(key, ":group:")
			groups[other]++
		}); err != nil {
			return warn(check, "allow SCAN for the Redis user", "prefixes cannot be listed: %v", err)
		}
	}
	own := groups[prefix]
	delete(groups, prefix)
	var others []string
	for p := range groups {
		others = append(others, p)
	}
	slices.Sort(others)
	remedy := "set channel_layer redis { prefix … } to the emitters' prefix (CHANNEL_LAYERS … CONFIG prefix)"
	switch {
	case len(others) == 0:
		return ok(check, "all groups are under the prefix %q", prefix)
	case own == 0:
		return fail(check, remedy,
			"groups exist under the prefix %q, but none under this relay's prefix %q", others, prefix)
	}
	return warn(check, remedy+", unless the other groups belong to another application",
		"groups exist under the prefix %q besides this relay's prefix %q", others, prefix)
}

// Capacity looks for mailboxes that are full or nearly full: emitters drop events for a full mailbox.
func Capacity(ctx context.Context, hosts []*redis.Client, prefix string, capacity int) Finding {
	const check = "capacity"
	longest, key := int64(0), ""
	for _, host := range hosts {
		var keys []string
		if err := scan(ctx, host, prefix+"specific.*", func(key string) { keys = append(keys, key) }); err != nil {
			return warn(check, "allow SCAN for the Redis user", "mailboxes cannot be listed: %v", err)
		}
		for part := range slices.Chunk(keys, 500) {
			pipe := host.Pipeline()
			var lengths []*redis.IntCmd
			for _, k := range part {
				lengths = append(lengths, pipe.ZCard(ctx, k))
			}
			if _, err := pipe.Exec(ctx); err != nil && !strings.Contains(err.Error(), "WRONGTYPE") {
				return warn(check, "allow ZCARD for the Redis user", "mailboxes cannot be measured: %v", err)
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
		return fail(check, "wait for the key to expire if its reader is gone; else "+raiseCapacity,
			"%d events are queued in %s; the capacity is %d, so emitters drop events", longest, key, capacity)
	case float64(longest) >= nearlyFull*float64(capacity):
		return warn(check, "find out why the reader is slow, or "+raiseCapacity,
			"%d of at most %d events are queued in %s", longest, capacity, key)
	}
	return ok(check, "the longest mailbox has %d events of at most %d", longest, capacity)
}

// raiseCapacity is the remedy for a mailbox that is too small.
const raiseCapacity = "raise capacity here and in the emitters' CHANNEL_LAYERS (AWX: 10000)"

// Peak compares the greatest number of events that were ever queued for this node with the capacity.
func Peak(peak, capacity int) Finding {
	const check = "capacity peak"
	switch {
	case peak >= capacity:
		return fail(check, raiseCapacity,
			"up to %d events were queued for this relay; the capacity is %d, so emitters dropped events",
			peak, capacity)
	case float64(peak) >= nearlyFull*float64(capacity):
		return warn(check, raiseCapacity, "up to %d events were queued for this relay, of at most %d", peak, capacity)
	}
	return ok(check, "up to %d events were queued for this relay, of at most %d", peak, capacity)
}

// AWXCapacity compares the capacity with the capacity of AWX's emitters.
func AWXCapacity(capacity int) Finding {
	if capacity < 10_000 {
		return warn("capacity", "set channel_layer redis { capacity 10000 }",
			"capacity is %d, but 10000 in AWX's CHANNEL_LAYERS: the relay drops its events sooner than AWX",
			capacity)
	}
	return ok("capacity", "capacity is %d", capacity)
}

// Losses reports events that clients have missed, or may have missed.
func Losses(times map[string]hub.LossCount, last hub.LossReport) Finding {
	const check = "losses"
	if last.At.IsZero() {
		return ok(check, "no event was lost")
	}
	var causes []string
	for cause, n := range times {
		if n.Times > 0 {
			causes = append(causes, fmt.Sprintf("%s %d", cause, n.Times))
		}
	}
	slices.Sort(causes)
	return warn(check, "see the log lines 'events may have been lost' for groups and remedies; "+
		"set resync to notify clients",
		"clients may have missed events (%s); the last incident, %s ago: %s",
		strings.Join(causes, ", "), time.Since(last.At).Round(time.Second), last.Text)
}

// Wiped reports memberships that another program has deleted. last is zero if unknown.
func Wiped(repairs uint64, last time.Time) Finding {
	const check = "memberships"
	if repairs == 0 {
		return ok(check, "no membership has disappeared from the channel layer")
	}
	when := ""
	if !last.IsZero() {
		when = ", most recently at " + last.Format(time.RFC3339)
	}
	return warn(check, "ignore this if AWX started at that time (AWX deletes asgi:*); "+
		"else look for FLUSHALL, evictions or a short group_expiry",
		"%d memberships disappeared from the channel layer since the relay started, and were restored%s", repairs, when)
}

// Ignored reports types of messages in this node's groups that the relay does not deliver.
func Ignored(types []string) Finding {
	const check = "message types"
	if len(types) == 0 {
		return ok(check, "no message was of a type that the relay ignores")
	}
	return warn(check, "add a route with a rule for the type, or send events for clients as "+
		"{\"type\": \"internal.message\", \"text\": …}; ignore this if the messages are for a consumer of your own",
		"messages of the types %q arrived and were not delivered", types)
}

// Clocks reports emitters with a clock that is ahead.
func Clocks(skewed, deliveries uint64) Finding {
	if skewed == 0 {
		return ok("emitters' clocks", "no event arrived before its publication")
	}
	return warn("emitters' clocks", "synchronize the clocks of emitters and relay (chrony, systemd-timesyncd), "+
		"because events of an emitter that is behind expire early",
		"%d of %d deliveries came before the event's publication: an emitter's clock is ahead", skewed, deliveries)
}
