// Package redis is the channel layer of channels_redis's RedisChannelLayer (version 4): it receives what
// Python emitters send to groups, and sends as they do. A node is one member of each group, however many
// clients it has, so what an event costs in Redis does not grow with them.
package redis

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/asgi"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// The hosts of a layer, and how they are reached.
type (
	// Hosts are the servers of a channel layer. Several make the ring of channels_redis.
	Hosts = redisnet.Hosts
	// Sentinel is one master that Redis Sentinel watches.
	Sentinel = redisnet.Sentinel
	// Pool has settings of the Redis client.
	Pool = redisnet.Pool
	// TLS has the details of encrypted connections.
	TLS = redisnet.TLS
)

// Settings are those of channels_redis, under its names. They must be the same at every emitter.
type Settings struct {
	// Hosts are the hosts of the ring.
	redisnet.Hosts
	// Prefix begins every key; "asgi" unless the emitters say otherwise.
	Prefix string
	// Capacity is how many messages may wait for one receiver; more are dropped by the sender.
	Capacity int
	// ChannelCapacity is the same for receivers of certain names; the first pattern that matches counts.
	ChannelCapacity []ChannelCapacity
	// Expiry is how long a message waits at most.
	Expiry time.Duration
	// GroupExpiry is how long a membership lasts that is not renewed.
	GroupExpiry time.Duration
	// Serializer is "msgpack" or "json".
	Serializer string
	// EncryptionKeys, if any, encrypt messages: the first does, each decrypts.
	EncryptionKeys []string
}

// DefaultSettings are channels_redis's defaults, on the local host.
func DefaultSettings() Settings {
	return Settings{
		Hosts:       redisnet.Hosts{URLs: []string{"redis://127.0.0.1:6379/0"}},
		Prefix:      "asgi",
		Capacity:    100,
		Expiry:      time.Minute,
		GroupExpiry: 24 * time.Hour,
		Serializer:  "msgpack",
	}
}

// Place identifies what cannot change under an open Broker: settings of the same place differ in nothing else than
// what [Broker.Apply] can change. It holds no secrets.
func (s Settings) Place() string {
	return fmt.Sprintf("redis %s%q %s", s.Hosts.Place(), s.Prefix, s.Serializer)
}

// Validate says what is wrong with the settings, if anything.
func (s Settings) Validate() error {
	_, err := s.prepare()
	return err
}

// inForce are settings made ready for use.
type inForce struct {
	Settings
	codec      asgi.Codec
	capacities []capacityOf
}

// prepare checks the settings and makes them ready for use.
func (s Settings) prepare() (*inForce, error) {
	fail := func(err error) (*inForce, error) { return nil, fmt.Errorf("channel_layer redis: %w", err) }
	if err := s.Hosts.Validate(); err != nil {
		return fail(err)
	}
	if s.Prefix == "" || s.Capacity <= 0 || s.Expiry < time.Second || s.GroupExpiry < time.Second {
		return fail(errors.New("prefix must not be empty, capacity must be above 0, expiry and group_expiry at least 1s"))
	}
	codec, err := asgi.NewCodec(s.Serializer, s.EncryptionKeys)
	if err != nil {
		return fail(err)
	}
	codec.Random, codec.TTL = asgi.RandomPrefix, s.Expiry+10*time.Second // as channels_redis has them
	capacities, err := compileCapacities(s.ChannelCapacity)
	if err != nil {
		return fail(err)
	}
	return &inForce{s, codec, capacities}, nil
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

var _ relay.Broker = (*Broker)(nil)
