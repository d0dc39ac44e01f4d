// Package redis is the channel layer of channels_redis's RedisChannelLayer (version 4): it receives what
// Python emitters send to groups, and sends as they do. A node is one member of each group, however many
// clients it has, so what an event costs in Redis does not grow with them.
package redis

import (
	"fmt"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/edgerelay/edgerelay/relay"
)

// Settings are those of channels_redis, under its names. They must be the same at every emitter.
type Settings struct {
	// URLs are the hosts of the ring: redis://, rediss:// or unix://, with user, password and database.
	URLs []string
	// Prefix begins every key; "asgi" unless the emitters say otherwise.
	Prefix string
	// Capacity is how many messages may wait for one receiver; more are dropped by the sender.
	Capacity int
	// Expiry is how long a message waits at most.
	Expiry time.Duration
	// GroupExpiry is how long a membership lasts that is not renewed.
	GroupExpiry time.Duration
	// Serializer is "msgpack" or "json".
	Serializer string
}

// DefaultSettings are channels_redis's defaults, on the local host.
func DefaultSettings() Settings {
	return Settings{
		URLs:        []string{"redis://127.0.0.1:6379/0"},
		Prefix:      "asgi",
		Capacity:    100,
		Expiry:      time.Minute,
		GroupExpiry: 24 * time.Hour,
		Serializer:  "msgpack",
	}
}

// Place identifies what cannot change under an open Broker: settings of the same place differ in nothing else than
// what [Broker.Apply] can change.
func (s Settings) Place() string {
	return fmt.Sprintf("redis %q %q %s", s.URLs, s.Prefix, s.Serializer)
}

// Validate says what is wrong with the settings, if anything.
func (s Settings) Validate() error {
	if len(s.URLs) == 0 {
		return fmt.Errorf("channel_layer redis: no url; write: url redis://127.0.0.1:6379/0")
	}
	for _, u := range s.URLs {
		if _, err := options(u); err != nil {
			return err
		}
	}
	if s.Prefix == "" || s.Capacity <= 0 || s.Expiry < time.Second || s.GroupExpiry < time.Second {
		return fmt.Errorf("channel_layer redis: prefix must not be empty, capacity must be above 0, expiry and group_expiry at least 1s")
	}
	if s.Serializer != "msgpack" && s.Serializer != "json" {
		return fmt.Errorf("channel_layer redis: serializer %q is not one of msgpack, json", s.Serializer)
	}
	return nil
}

// options reads a URL, without ever repeating its password in an error.
func options(url string) (*goredis.Options, error) {
	o, err := goredis.ParseURL(url)
	if err != nil {
		scheme, _, _ := strings.Cut(url, "://")
		return nil, fmt.Errorf("channel_layer redis: the url (%s://…) cannot be read; write it like redis://user:password@host:6379/0, rediss://… for TLS or unix:///path?db=0", scheme)
	}
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.MaxRetries = -1 // a message whose sending is retried blindly can arrive twice
	o.DialTimeout = 3 * time.Second
	o.ReadTimeout = 5 * time.Second
	o.WriteTimeout = 5 * time.Second
	return o, nil
}

// groupKey is the sorted set of a group's members.
func groupKey(prefix, group string) string { return prefix + ":group:" + group }

// receiver is the part of a channel name that its messages are kept under: all up to and including '!',
// or the whole name where there is none.
func receiver(channel string) string {
	if i := strings.IndexByte(channel, '!'); i >= 0 {
		return channel[:i+1]
	}
	return channel
}

// The pool would print every failed attempt to connect to standard error; health and the log tell it already.
func init() { goredis.SetLogger(&logging.VoidLogger{}) }

var _ relay.Broker = (*Broker)(nil)
