package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// Redis finds peers in a registry in a Redis that all nodes share. Each node announces its URL again and again.
type Redis struct {
	// URL is the Redis, as in the hosts of CHANNEL_LAYERS: redis://, rediss:// or unix://.
	URL string
	// Advertise is the URL under which other nodes reach this one.
	Advertise string
	// Every is the time between announcements, TTL the lifetime of an announcement. Defaults: 5 s and 15 s.
	Every, TTL time.Duration
	Log        *slog.Logger
}

var (
	_ backplane.Discovery = (*Redis)(nil)
	_ backplane.Patient   = (*Redis)(nil)
)

// registry is a sorted set of node URLs; the score is the time of the last announcement by Redis's own clock.
const registry = "edgerelay:nodes"

// announceScript adds ARGV[1], removes entries older than ARGV[2] seconds, and returns the time and the rest with the
// times of their announcements.
var announceScript = goredis.NewScript(`local now=tonumber(redis.call('TIME')[1])
redis.call('ZADD',KEYS[1],now,ARGV[1])
redis.call('ZREMRANGEBYSCORE',KEYS[1],'-inf','('..(now-tonumber(ARGV[2])))
redis.call('EXPIRE',KEYS[1],10*tonumber(ARGV[2]))
local list=redis.call('ZRANGE',KEYS[1],0,-1,'WITHSCORES')
table.insert(list,1,tostring(now))
return list`)

// Key implements [backplane.Discovery].
func (r *Redis) Key() string {
	return fmt.Sprint("redis ", fingerprint(r.URL), " ", r.Advertise, " ", r.Every, " ", r.TTL)
}

// Patience implements [backplane.Patient]: a node whose announcement has expired may have lost the registry only.
func (r *Redis) Patience() int { return patience }

// Source implements [backplane.Patient].
func (r *Redis) Source() string { return "redis " + fingerprint(r.URL) }

// Validate returns an error if a setting is missing or invalid.
func (r *Redis) Validate() error {
	if err := r.hosts().Validate(); err != nil {
		return fmt.Errorf("backplane: redis: %w", err) // the error holds no password
	}
	if r.Advertise == "" {
		return errors.New("backplane: redis: no URL to announce; add 'advertise <url>' with the URL of this node")
	}
	return nil
}

// hosts returns the registry's Redis. Timeouts are short: the next announcement is the retry.
func (r *Redis) hosts() redisnet.Hosts {
	const timeout = 2 * time.Second
	return redisnet.Hosts{
		URLs: []string{r.URL},
		Pool: redisnet.Pool{DialTimeout: timeout, ReadTimeout: timeout, WriteTimeout: timeout},
	}
}

// Run implements [backplane.Discovery].
func (r *Redis) Run(ctx context.Context, found func([]backplane.Target)) {
	clients, closeAll, err := r.hosts().Clients()
	if err != nil { // such as a certificate removed since Validate
		r.Log.Error("peer registry not usable", "error", err)
		return
	}
	defer closeAll()
	client := clients[0]

	every, ttl := r.Every, r.TTL
	if every <= 0 {
		every = 5 * time.Second
	}
	if ttl <= 0 {
		ttl = 3 * every
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	last, failing := map[string]int64{}, false
	for {
		seconds := max(1, int64(ttl/time.Second))
		list, err := announceScript.Run(ctx, client, []string{registry}, r.Advertise, seconds).StringSlice()
		switch {
		case err != nil && ctx.Err() == nil:
			if !failing {
				r.Log.Warn("peer registry unreachable, known peers stay", "error", err)
			}
		case err == nil:
			now, nodes := parseRegistry(list)
			targets := r.targets(slices.Sorted(maps.Keys(nodes)))
			for _, gone := range r.targets(withdrawn(last, nodes, now-seconds)) {
				gone.Gone = true
				targets = append(targets, gone)
			}
			last = nodes
			found(targets)
		}
		failing = err != nil
		select {
		case <-tick.C:
		case <-ctx.Done():
			leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			client.ZRem(leaving, registry, r.Advertise) // best effort: the entry expires anyway
			return
		}
	}
}

// parseRegistry reads the result of announceScript: the time, and the times of the announcements by URL.
func parseRegistry(list []string) (now int64, nodes map[string]int64) {
	nodes = map[string]int64{}
	for i := 1; i+1 < len(list); i += 2 {
		at, _ := strconv.ParseFloat(list[i+1], 64)
		nodes[list[i]] = int64(at)
	}
	if len(list) > 0 {
		now, _ = strconv.ParseInt(list[0], 10, 64)
	}
	return now, nodes
}

// withdrawn lists the nodes that have removed their announcement: it is missing, and too new to have expired.
func withdrawn(before, after map[string]int64, expired int64) (gone []string) {
	for url, announced := range before {
		if _, ok := after[url]; !ok && announced >= expired {
			gone = append(gone, url)
		}
	}
	slices.Sort(gone)
	return gone
}

// targets returns the registered nodes except this one. Invalid entries are ignored.
func (r *Redis) targets(nodes []string) []backplane.Target {
	targets := []backplane.Target{}
	for _, n := range nodes {
		if _, err := backplane.ParseURL(n); err != nil {
			continue // not written by a relay
		}
		if strings.TrimSuffix(n, "/") != strings.TrimSuffix(r.Advertise, "/") {
			targets = append(targets, backplane.Target{URL: n, Dialect: backplane.Auto, Found: true})
		}
	}
	return targets
}
