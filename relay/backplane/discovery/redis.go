package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/edgerelay/edgerelay/relay/backplane"
)

// Redis finds peers in a registry in a Redis that all nodes share. Each node announces its URL again and again.
type Redis struct {
	// URL is the Redis: redis://, rediss:// or unix://.
	URL string
	// Advertise is the URL under which other nodes reach this one.
	Advertise string
	// Every is the time between announcements, TTL the lifetime of an announcement. Defaults: 5 s and 15 s.
	Every, TTL time.Duration
	Log        *slog.Logger
}

var _ backplane.Discovery = (*Redis)(nil)

// registry is a sorted set of node URLs; the score is the time of the last announcement by Redis's own clock.
const registry = "edgerelay:nodes"

// announceScript adds ARGV[1], removes entries older than ARGV[2] seconds, and returns the rest.
var announceScript = goredis.NewScript(`local now=tonumber(redis.call('TIME')[1])
redis.call('ZADD',KEYS[1],now,ARGV[1])
redis.call('ZREMRANGEBYSCORE',KEYS[1],'-inf','('..(now-tonumber(ARGV[2])))
redis.call('EXPIRE',KEYS[1],10*tonumber(ARGV[2]))
return redis.call('ZRANGE',KEYS[1],0,-1)`)

// Key implements [backplane.Discovery].
func (r *Redis) Key() string {
	return fmt.Sprint("redis ", fingerprint(r.URL), " ", r.Advertise, " ", r.Every, " ", r.TTL)
}

// Validate returns an error if a setting is missing or invalid.
func (r *Redis) Validate() error {
	if _, err := goredis.ParseURL(r.URL); err != nil {
		return errors.New("backplane: redis: invalid URL; use a value such as redis://user:password@host:6379/0")
	}
	if r.Advertise == "" {
		return errors.New("backplane: redis: no URL to announce; add 'advertise <url>' with the URL of this node")
	}
	return nil
}

// Run implements [backplane.Discovery].
func (r *Redis) Run(ctx context.Context, found func([]backplane.Target)) {
	options, err := goredis.ParseURL(r.URL)
	if err != nil {
		r.Log.Error("invalid URL of the peer registry",
			"remedy", "use a value such as redis://user:password@host:6379/0")
		return
	}
	options.DisableIdentity = true
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	options.MaxRetries, options.DialerRetries = -1, 1 // the next announcement is the retry
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout = 2*time.Second, 2*time.Second, 2*time.Second
	client := goredis.NewClient(options)
	defer func() { _ = client.Close() }()

	every, ttl := r.Every, r.TTL
	if every <= 0 {
		every = 5 * time.Second
	}
	if ttl <= 0 {
		ttl = 3 * every
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last []string
	failing := false
	for {
		seconds := max(1, int64(ttl/time.Second))
		nodes, err := announceScript.Run(ctx, client, []string{registry}, r.Advertise, seconds).StringSlice()
		switch {
		case err != nil && ctx.Err() == nil:
			if !failing {
				r.Log.Warn("peer registry unreachable, known peers stay", "error", err)
			}
		case err == nil:
			slices.Sort(nodes)
			if last == nil || !slices.Equal(nodes, last) {
				last = nodes
				found(r.targets(nodes))
			}
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
