// Package pubsub is the channel layer of channels_redis's RedisPubSubChannelLayer: a group is a pub/sub channel of
// Redis. Redis keeps no messages, so events that are sent while a connection is broken are lost; the layer reports that
// they may be.
package pubsub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/asgi"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// Settings are those of channels_redis's RedisPubSubChannelLayer, under its names. They must be the same at every emitter.
type Settings struct {
	// Hosts are the hosts of the ring. Their database numbers mean nothing to Redis's pub/sub.
	redisnet.Hosts
	// Prefix begins the name of every pub/sub channel; "asgi" unless the emitters say otherwise.
	Prefix string
	// Serializer is "msgpack" or "json".
	Serializer string
	// EncryptionKeys, if any, encrypt messages: the first does, each decrypts.
	EncryptionKeys []string
}

// DefaultSettings are channels_redis's defaults, on the local host.
func DefaultSettings() Settings {
	return Settings{Hosts: redisnet.Hosts{URLs: []string{"redis://127.0.0.1:6379/0"}}, Prefix: "asgi", Serializer: "msgpack"}
}

// Place identifies what cannot change under an open Broker, with settings.
func (s Settings) Place() string {
	return fmt.Sprintf("redis_pubsub %s%q %s", s.Hosts.Place(), s.Prefix, s.Serializer)
}

// Validate says what is wrong with the settings, if anything.
func (s Settings) Validate() error {
	_, err := s.prepare()
	return err
}

// inForce are settings made ready for use.
type inForce struct {
	Settings
	codec asgi.Codec
}

func (s Settings) prepare() (*inForce, error) {
	fail := func(err error) (*inForce, error) {
		return nil, fmt.Errorf("channel_layer redis_pubsub: %w", err)
	}
	if _, err := s.Options(); err != nil {
		return fail(err)
	}
	if s.Prefix == "" {
		return fail(errors.New("prefix must not be empty"))
	}
	codec, err := asgi.NewCodec(s.Serializer, s.EncryptionKeys)
	if err != nil {
		return fail(err)
	}
	return &inForce{s, codec}, nil
}

// Broker is one node's part in a channel layer of RedisPubSubChannelLayer: Redis keeps nothing, so an event reaches who is subscribed
// at that moment, and what comes while a connection is broken is lost. It implements [relay.Broker].
type Broker struct {
	place    Settings
	settings atomic.Pointer[inForce]
	log      *slog.Logger
	hosts    *redisnet.Ring
	links    []*subscriber // one for each host
	health   *redisnet.Health
	skipped  asgi.Skipped

	mu      sync.Mutex
	started bool
	closed  bool
	stop    context.CancelFunc
	running sync.WaitGroup
}

// New returns a Broker. It connects when it is started.
func New(s Settings, log *slog.Logger) (*Broker, error) {
	settings, err := s.prepare()
	if err != nil {
		return nil, err
	}
	hosts, err := redisnet.NewRing(s.Hosts)
	if err != nil {
		return nil, err
	}
	hosts.Tell(log)
	b := &Broker{place: s, log: log, hosts: hosts, health: redisnet.NewHealth(hosts.Size)}
	b.settings.Store(settings)
	for i := range hosts.Size {
		b.links = append(b.links, newSubscriber(b, i))
	}
	return b, nil
}

// Apply changes the settings that can change while the Broker runs: all but what makes up its Place. New addresses, credentials and
// timeouts mean new connections, and thereby a short gap.
func (b *Broker) Apply(s Settings) error {
	settings, err := s.prepare()
	if err != nil {
		return err
	}
	if s.Place() != b.place.Place() {
		return errors.New("redis_pubsub channel layer: another place needs another Broker")
	}
	moved, err := b.hosts.Apply(s.Hosts)
	if err != nil {
		return err
	}
	b.settings.Store(settings)
	b.skipped.Forgive()
	if moved {
		b.hosts.Tell(b.log)
		for _, l := range b.links {
			l.cut()
		}
	}
	return nil
}

// Start implements [relay.Broker].
func (b *Broker) Start(sink relay.Sink) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.started || b.closed {
		return fmt.Errorf("redis_pubsub channel layer: started already: %w", relay.ErrClosed)
	}
	b.started = true
	ctx, cancel := context.WithCancel(context.Background())
	b.stop = cancel
	b.running.Go(func() {
		b.health.Watch(ctx, b.log, b.Health, "channel layer is not well; clients stay connected, but what is sent meanwhile is lost to them")
	})
	for _, l := range b.links {
		l.sink = sink
		b.running.Go(func() { l.run(ctx) })
	}
	return nil
}

// channel is the pub/sub channel of a group.
func (b *Broker) channel(group string) string { return b.place.Prefix + "__group__" + group }

// byLink sorts groups by the host that keeps them: the hash is of the whole name of the channel.
func (b *Broker) byLink(groups []string) map[*subscriber][]string {
	sorted := map[*subscriber][]string{}
	for _, g := range groups {
		l := b.links[b.hosts.Index(b.channel(g))]
		sorted[l] = append(sorted[l], g)
	}
	return sorted
}

// Join implements [relay.Broker].
func (b *Broker) Join(ctx context.Context, groups ...string) error {
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	if closed {
		return fmt.Errorf("redis_pubsub channel layer: %w", relay.ErrClosed)
	}
	var waiting []<-chan struct{}
	for l, names := range b.byLink(groups) {
		waiting = append(waiting, l.join(names)...)
	}
	for _, done := range waiting {
		select {
		case <-done:
		case <-ctx.Done():
			for l, names := range b.byLink(groups) {
				l.late(names)
			}
			return fmt.Errorf("subscribing to %d groups in redis: %w", len(groups), ctx.Err())
		}
	}
	return nil
}

// Leave implements [relay.Broker].
func (b *Broker) Leave(groups ...string) {
	for l, names := range b.byLink(groups) {
		l.leave(names)
	}
}

// Publish implements [relay.Broker], as RedisPubSubChannelLayer.group_send does. Members are the nodes and Python processes that
// Redis has handed the event to.
func (b *Broker) Publish(ctx context.Context, group string, text []byte) (relay.Receipt, error) {
	if err := relay.CheckGroup(group); err != nil {
		return relay.Receipt{}, fmt.Errorf("publishing: %w", err)
	}
	if !utf8.Valid(text) {
		return relay.Receipt{}, fmt.Errorf("publishing to %s: the text is not UTF-8", group)
	}
	raw, err := b.settings.Load().codec.Encode(text, nil)
	if err != nil {
		return relay.Receipt{}, fmt.Errorf("publishing to %s: %w", group, err)
	}
	channel := b.channel(group)
	n, err := b.hosts.Client(b.hosts.Index(channel)).Publish(ctx, channel, raw).Result()
	if err != nil {
		return relay.Receipt{}, fmt.Errorf("publishing to %s: %w", group, err)
	}
	return relay.Receipt{Members: int(n)}, nil
}

// Health implements [relay.Broker].
func (b *Broker) Health() relay.Health {
	state := b.health.Report(b.hosts, b.trouble)
	state.Undecodable, state.Ignored = b.skipped.Undecodable.Load(), b.skipped.Ignored.Load()
	return state
}

// trouble says how many groups are not subscribed although the hosts are well.
func (b *Broker) trouble() string {
	waiting := 0
	for _, l := range b.links {
		waiting += l.overdue()
	}
	if waiting == 0 {
		return ""
	}
	return fmt.Sprintf("%d groups are not subscribed yet", waiting)
}

// Close implements [relay.Broker].
func (b *Broker) Close(ctx context.Context) error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	started := b.started
	b.mu.Unlock()
	var err error
	if started {
		errs := make([]error, len(b.links))
		var leaving sync.WaitGroup
		for i, l := range b.links { // at once, so that no host waits for another
			leaving.Go(func() { errs[i] = l.leaveAll(ctx) })
		}
		leaving.Wait()
		err = errors.Join(errs...)
		b.stop()
		for _, l := range b.links {
			l.cut()
		}
		b.running.Wait()
	}
	b.hosts.Close()
	if err != nil {
		return fmt.Errorf("leaving the redis_pubsub channel layer: %w", err)
	}
	return nil
}

// LayerID identifies the channel layer, as [Broker.LayerID] does: pub/sub is one for all databases of a Redis, so the text is in the first.
func (b *Broker) LayerID(ctx context.Context) (string, error) {
	return (&redisnet.Identity{
		Hosts: b.hosts, Key: "edgerelay:pubsub:" + b.place.Prefix, Before: "redis.call('SELECT',0)\n", Healed: b.healed,
	}).Read(ctx)
}

// Set stores a string beside the channel layer, as Python's Redis client does.
func (b *Broker) Set(ctx context.Context, key, value string, lifetime time.Duration) error {
	return redisnet.Set(ctx, b.hosts.Client(0), key, value, lifetime)
}

var _ relay.Broker = (*Broker)(nil)

// IgnoredTypes are the types of messages that came for this node's groups and are none of the relay's business.
func (b *Broker) IgnoredTypes() []string { return b.skipped.IgnoredTypes() }

func (b *Broker) healed(host int, key string) { b.health.Heal(b.log, b.hosts.Route(host), key) }
