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
	"github.com/edgerelay/edgerelay/relay/internal/reconcile"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// Settings are the settings of RedisPubSubChannelLayer, with the same names. They must be equal on every emitter.
type Settings struct {
	// Hosts are the hosts of the ring. Pub/sub ignores their database numbers.
	redisnet.Hosts
	// Prefix begins the name of every pub/sub channel. The default of emitters is "asgi".
	Prefix string
	// Serializer is "msgpack" or "json".
	Serializer string
	// EncryptionKeys encrypt messages with the first key and decrypt with every key. Empty: no encryption.
	EncryptionKeys []string
}

// DefaultSettings returns the defaults of channels_redis, for a Redis on this machine.
func DefaultSettings() Settings {
	hosts := redisnet.Hosts{URLs: []string{"redis://127.0.0.1:6379/0"}}
	return Settings{Hosts: hosts, Prefix: "asgi", Serializer: "msgpack"}
}

// Place identifies the settings that cannot change under an open Broker. The text holds no secrets.
func (s Settings) Place() string {
	return fmt.Sprintf("redis_pubsub %s%q %s", s.Hosts.Place(), s.Prefix, s.Serializer)
}

// Validate returns an error if the settings cannot be used.
func (s Settings) Validate() error {
	_, err := s.prepare()
	return err
}

// inForce is the current settings, ready for use.
type inForce struct {
	Settings
	codec asgi.Codec
}

func (s Settings) prepare() (*inForce, error) {
	fail := func(err error) (*inForce, error) {
		return nil, fmt.Errorf("channel_layer redis_pubsub: %w", err)
	}
	if err := s.Hosts.Validate(); err != nil {
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

// Broker is a node's part in a channel layer of RedisPubSubChannelLayer. It implements [relay.Broker].
type Broker struct {
	place       Settings
	settings    atomic.Pointer[inForce]
	log         *slog.Logger
	hosts       *redisnet.Ring
	subscribers []*subscriber // one for each host
	health      *redisnet.Health
	skipped     asgi.Skipped
	messages    atomic.Bool // messages of any type are delivered
	life        redisnet.Lifecycle

	mu      sync.Mutex // guards closing and the subscribers' connections and sets
	closing bool
}

// New returns a Broker. Start connects.
func New(s Settings, log *slog.Logger) (*Broker, error) {
	settings, err := s.prepare()
	if err != nil {
		return nil, err
	}
	hosts, err := redisnet.NewRing(s.Hosts)
	if err != nil {
		return nil, err
	}
	hosts.WarnIgnored(log)
	b := &Broker{place: s, log: log, hosts: hosts, health: redisnet.NewHealth(hosts.Size)}
	b.settings.Store(settings)
	for i := range hosts.Size {
		b.subscribers = append(b.subscribers, newSubscriber(b, i))
	}
	return b, nil
}

// Apply changes the settings of an open Broker. They must have the same Place. New addresses, credentials and timeouts
// mean new connections, and so a short gap.
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
	b.skipped.ResetLog()
	if moved {
		b.hosts.WarnIgnored(b.log)
		for _, l := range b.subscribers {
			l.cut()
		}
	}
	return nil
}

// Start implements [relay.Broker].
func (b *Broker) Start(sink relay.Sink) error {
	return b.life.Start("redis_pubsub", func(ctx context.Context) {
		b.life.Go(func() {
			redisnet.Watch(ctx, b.log, "events are lost until it recovers", b.health.LastLoss, b.Health)
		})
		for _, l := range b.subscribers {
			l.sink = sink
			b.life.Go(func() { l.run(ctx) })
		}
	})
}

// channel returns the pub/sub channel of a group.
func (b *Broker) channel(group string) string { return b.place.Prefix + "__group__" + group }

// of returns the subscriber of a channel, and so of a group. The hash is of the channel's whole name.
func (b *Broker) of(channel string) *subscriber { return b.subscribers[b.hosts.Index(channel)] }

// Join implements [relay.Broker].
func (b *Broker) Join(ctx context.Context, groups ...string) error {
	var ticket reconcile.Ticket[subscribed]
	b.mu.Lock()
	if b.closing {
		b.mu.Unlock()
		return fmt.Errorf("redis_pubsub channel layer: %w", relay.ErrClosed)
	}
	for _, g := range groups {
		channel := b.channel(g)
		s := b.of(channel)
		if sub, created := s.subs.Want(channel, &ticket); created {
			sub.Value.group = g
		}
		s.wake()
	}
	b.mu.Unlock()
	if err := ticket.Wait(ctx, &b.mu); err != nil {
		return fmt.Errorf("subscribing to %d groups in redis: %w", len(groups), err)
	}
	return nil
}

// Leave implements [relay.Broker].
func (b *Broker) Leave(groups ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, g := range groups {
		channel := b.channel(g)
		s := b.of(channel)
		s.subs.Drop(channel)
		s.wake()
	}
}

// Publish implements [relay.Broker], as RedisPubSubChannelLayer.group_send does. Members counts the nodes and Python
// processes to which Redis has sent the event.
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
	return b.publish(ctx, group, raw)
}

// PublishMessage implements [relay.MessagePublisher].
func (b *Broker) PublishMessage(ctx context.Context, m relay.Message) (relay.Receipt, error) {
	if err := relay.CheckGroup(m.Group); err != nil {
		return relay.Receipt{}, fmt.Errorf("publishing: %w", err)
	}
	codec := &b.settings.Load().codec
	packed, err := codec.Pack(&m)
	if err != nil {
		return relay.Receipt{}, fmt.Errorf("publishing to %s: %w", m.Group, err)
	}
	raw, err := codec.EncodePacked(packed, nil)
	if err != nil {
		return relay.Receipt{}, fmt.Errorf("publishing to %s: %w", m.Group, err)
	}
	return b.publish(ctx, m.Group, raw)
}

// ReceiveMessages implements [relay.MessageReceiver].
func (b *Broker) ReceiveMessages(on bool) {
	if b.messages.Store(on); on {
		b.skipped.ForgetTypes()
	}
}

func (b *Broker) publish(ctx context.Context, group string, raw []byte) (relay.Receipt, error) {
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

// trouble describes groups that are not subscribed although the hosts are healthy; empty if there is none.
func (b *Broker) trouble() string {
	waiting := 0
	for _, l := range b.subscribers {
		waiting += l.overdue()
	}
	if waiting == 0 {
		return ""
	}
	return fmt.Sprintf("%d groups are not subscribed yet", waiting)
}

// Close implements [relay.Broker]. Redis confirms the end of each subscription: by then, earlier events have been
// delivered.
func (b *Broker) Close(ctx context.Context) error {
	first, started := b.life.Close()
	if !first {
		return nil
	}
	emptied := b.dropAll()
	var err error
	if started {
		err = waitAll(ctx, emptied)
		stopped := b.life.Stop()
		for _, l := range b.subscribers {
			l.cut()
		}
		<-stopped
	}
	b.hosts.Close()
	if err != nil {
		return fmt.Errorf("leaving the redis_pubsub channel layer: %w", err)
	}
	return nil
}

// dropAll ends every subscription. The channels are closed once Redis has confirmed the end.
func (b *Broker) dropAll() (emptied []<-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closing = true
	for _, l := range b.subscribers {
		emptied = append(emptied, l.subs.DropAll())
		l.wake()
	}
	return emptied
}

// waitAll waits until all channels are closed.
func waitAll(ctx context.Context, channels []<-chan struct{}) error {
	for _, c := range channels {
		select {
		case <-c:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// LayerID identifies the channel layer: nodes that see the same events get the same ID. Pub/sub spans the databases of
// a Redis, so the ID is kept in database 0.
func (b *Broker) LayerID(ctx context.Context) (string, error) {
	return (&redisnet.Identity{
		Hosts: b.hosts, Key: "edgerelay:pubsub:" + b.place.Prefix, Before: "redis.call('SELECT',0)\n", Healed: b.healed,
	}).Read(ctx)
}

// Set stores a string beside the channel layer, like Python's Redis client.
func (b *Broker) Set(ctx context.Context, key, value string, lifetime time.Duration) error {
	return redisnet.Set(ctx, b.hosts.Client(0), key, value, lifetime)
}

// SwapClaims implements [relay.ClaimKeeper]. All claims are on the first host, in database 0: pub/sub spans the
// databases.
func (b *Broker) SwapClaims(ctx context.Context, swaps []relay.ClaimSwap) ([]string, error) {
	return redisnet.ClaimStore{
		Client: b.hosts.Client(0), Prefix: b.place.Prefix, Before: "redis.call('SELECT',0)\n",
	}.SwapClaims(ctx, swaps)
}

var _ relay.Broker = (*Broker)(nil)

var _ interface {
	relay.LayerIdentifier
	relay.KeyStore
	relay.ClaimKeeper
	relay.IgnoredTypeLister
	relay.MessageReceiver
	relay.MessagePublisher
} = (*Broker)(nil)

// IgnoredTypes returns the types of the messages to this node's groups that the relay does not deliver.
func (b *Broker) IgnoredTypes() []string { return b.skipped.IgnoredTypes() }

func (b *Broker) healed(host int, key string) { b.health.Heal(b.log, b.hosts.Route(host), key) }
