// Package redis is the channel layer of channels_redis's RedisChannelLayer (version 4). The package receives the
// events that
// Python emitters send to groups, and publishes as they do. A node joins each group once, however many clients it has,
// so the cost of an event in Redis does not grow with the clients.
//
// A [Broker] has three parts per host. A reader takes messages from the node's mailbox and delivers them (reader.go,
// mailbox.go, receive.go). A reconciler keeps the node's memberships as wanted (membership.go, reconciler.go). A
// heartbeat removes dead nodes (heartbeat.go). The hosts do not wait for each other.
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

// Hosts and the settings of their connections.
type (
	// Hosts are the servers of a channel layer. Several hosts make the ring of channels_redis.
	Hosts = redisnet.Hosts
	// Sentinel is a master that Redis Sentinel watches.
	Sentinel = redisnet.Sentinel
	// Pool has settings of the pooled client.
	Pool = redisnet.Pool
	// TLS has the settings of encrypted connections.
	TLS = redisnet.TLS
)

// Settings are the settings of channels_redis, with the same names. They must be equal on every emitter.
type Settings struct {
	// Hosts are the hosts of the ring.
	redisnet.Hosts
	// Prefix begins every key. The default of emitters is "asgi".
	Prefix string
	// Capacity is how many messages one mailbox may hold. Emitters drop further ones.
	Capacity int
	// ChannelCapacity has capacities by channel name; the first pattern that matches counts.
	ChannelCapacity []ChannelCapacity
	// Expiry is the lifetime of a message in a mailbox.
	Expiry time.Duration
	// GroupExpiry is the lifetime of a membership that is not renewed.
	GroupExpiry time.Duration
	// Serializer is "msgpack" or "json".
	Serializer string
	// EncryptionKeys encrypt messages with the first key and decrypt with every key. Empty: no encryption.
	EncryptionKeys []string
}

// DefaultSettings returns the defaults of channels_redis, for a Redis on this machine.
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

// Place identifies the settings that cannot change under an open Broker. [Broker.Apply] accepts settings of the same
// place. The text holds no secrets.
func (s Settings) Place() string {
	return fmt.Sprintf("redis %s%q %s", s.Hosts.Place(), s.Prefix, s.Serializer)
}

// Validate returns an error if the settings cannot be used.
func (s Settings) Validate() error {
	_, err := s.prepare()
	return err
}

// inForce is the current settings, ready for use.
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
	switch {
	case s.Prefix == "":
		return fail(errors.New("prefix: the value is empty; use one such as asgi"))
	case s.Capacity <= 0:
		return fail(fmt.Errorf("capacity: invalid number %d; use a value above 0", s.Capacity))
	case s.Expiry < time.Second:
		return fail(fmt.Errorf("expiry: invalid duration %v; use at least 1s", s.Expiry))
	case s.GroupExpiry < time.Second:
		return fail(fmt.Errorf("group_expiry: invalid duration %v; use at least 1s", s.GroupExpiry))
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

// groupKey returns the key of the sorted set of a group's members.
func groupKey(prefix, group string) string { return prefix + ":group:" + group }

// receiver returns the part of a channel name that names its mailbox: up to and including '!', or the whole name.
func receiver(channel string) string {
	if i := strings.IndexByte(channel, '!'); i >= 0 {
		return channel[:i+1]
	}
	return channel
}

var _ relay.Broker = (*Broker)(nil)

var _ interface {
	relay.LayerIdentifier
	relay.KeyStore
	relay.ClaimKeeper
	relay.Mailbox
	relay.IgnoredTypeLister
	relay.MessageReceiver
	relay.MessagePublisher
} = (*Broker)(nil)
