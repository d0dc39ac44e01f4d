package redis

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

// PubSubSettings are those of channels_redis's RedisPubSubChannelLayer, under its names. They must be the same at every emitter.
type PubSubSettings struct {
	// Hosts are the hosts of the ring. Their database numbers mean nothing to Redis's pub/sub.
	redisnet.Hosts
	// Prefix begins the name of every pub/sub channel; "asgi" unless the emitters say otherwise.
	Prefix string
	// Serializer is "msgpack" or "json".
	Serializer string
	// EncryptionKeys, if any, encrypt messages: the first does, each decrypts.
	EncryptionKeys []string
}

// DefaultPubSubSettings are channels_redis's defaults, on the local host.
func DefaultPubSubSettings() PubSubSettings {
	return PubSubSettings{Hosts: redisnet.Hosts{URLs: []string{"redis://127.0.0.1:6379/0"}}, Prefix: "asgi", Serializer: "msgpack"}
}

// Place identifies what cannot change under an open PubSub, as [Settings.Place] does.
func (s PubSubSettings) Place() string {
	return fmt.Sprintf("redis_pubsub %s%q %s", s.Place(), s.Prefix, s.Serializer)
}

// Validate says what is wrong with the settings, if anything.
func (s PubSubSettings) Validate() error {
	_, err := s.prepare()
	return err
}

// pubSubInForce are settings made ready for use.
type pubSubInForce struct {
	PubSubSettings
	codec asgi.Codec
}

func (s PubSubSettings) prepare() (*pubSubInForce, error) {
	fail := func(err error) (*pubSubInForce, error) {
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
	return &pubSubInForce{s, codec}, nil
}

// PubSub is one node's part in a channel layer of RedisPubSubChannelLayer: Redis keeps nothing, so an event reaches who is subscribed
// at that moment, and what comes while a connection is broken is lost. It implements [relay.Broker].
type PubSub struct {
	place    PubSubSettings
	settings atomic.Pointer[pubSubInForce]
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

// NewPubSub returns a PubSub. It connects when it is started.
func NewPubSub(s PubSubSettings, log *slog.Logger) (*PubSub, error) {
	settings, err := s.prepare()
	if err != nil {
		return nil, err
	}
	hosts, err := redisnet.NewRing(s.Hosts)
	if err != nil {
		return nil, err
	}
	hosts.Tell(log)
	p := &PubSub{place: s, log: log, hosts: hosts, health: redisnet.NewHealth(hosts.Size)}
	p.settings.Store(settings)
	for i := range hosts.Size {
		p.links = append(p.links, newSubscriber(p, i))
	}
	return p, nil
}

// Apply changes the settings that can change while the PubSub runs: all but what makes up its Place. New addresses, credentials and
// timeouts mean new connections, and thereby a short gap.
func (p *PubSub) Apply(s PubSubSettings) error {
	settings, err := s.prepare()
	if err != nil {
		return err
	}
	if s.Place() != p.place.Place() {
		return errors.New("redis_pubsub channel layer: another place needs another PubSub")
	}
	moved, err := p.hosts.Apply(s.Hosts)
	if err != nil {
		return err
	}
	p.settings.Store(settings)
	p.skipped.Forgive()
	if moved {
		p.hosts.Tell(p.log)
		for _, l := range p.links {
			l.cut()
		}
	}
	return nil
}

// Start implements [relay.Broker].
func (p *PubSub) Start(sink relay.Sink) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started || p.closed {
		return fmt.Errorf("redis_pubsub channel layer: started already: %w", relay.ErrClosed)
	}
	p.started = true
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	p.running.Go(func() {
		p.health.Watch(ctx, p.log, p.Health, "channel layer is not well; clients stay connected, but what is sent meanwhile is lost to them")
	})
	for _, l := range p.links {
		l.sink = sink
		p.running.Go(func() { l.run(ctx) })
	}
	return nil
}

// channel is the pub/sub channel of a group.
func (p *PubSub) channel(group string) string { return p.place.Prefix + "__group__" + group }

// byLink sorts groups by the host that keeps them: the hash is of the whole name of the channel.
func (p *PubSub) byLink(groups []string) map[*subscriber][]string {
	sorted := map[*subscriber][]string{}
	for _, g := range groups {
		l := p.links[p.hosts.Index(p.channel(g))]
		sorted[l] = append(sorted[l], g)
	}
	return sorted
}

// Join implements [relay.Broker].
func (p *PubSub) Join(ctx context.Context, groups ...string) error {
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return fmt.Errorf("redis_pubsub channel layer: %w", relay.ErrClosed)
	}
	var waiting []<-chan struct{}
	for l, names := range p.byLink(groups) {
		waiting = append(waiting, l.join(names)...)
	}
	for _, done := range waiting {
		select {
		case <-done:
		case <-ctx.Done():
			for l, names := range p.byLink(groups) {
				l.late(names)
			}
			return fmt.Errorf("subscribing to %d groups in redis: %w", len(groups), ctx.Err())
		}
	}
	return nil
}

// Leave implements [relay.Broker].
func (p *PubSub) Leave(groups ...string) {
	for l, names := range p.byLink(groups) {
		l.leave(names)
	}
}

// Publish implements [relay.Broker], as RedisPubSubChannelLayer.group_send does. Members are the nodes and Python processes that
// Redis has handed the event to.
func (p *PubSub) Publish(ctx context.Context, group string, text []byte) (relay.Receipt, error) {
	if err := relay.CheckGroup(group); err != nil {
		return relay.Receipt{}, fmt.Errorf("publishing: %w", err)
	}
	if !utf8.Valid(text) {
		return relay.Receipt{}, fmt.Errorf("publishing to %s: the text is not UTF-8", group)
	}
	raw, err := p.settings.Load().codec.Encode(text, nil)
	if err != nil {
		return relay.Receipt{}, fmt.Errorf("publishing to %s: %w", group, err)
	}
	channel := p.channel(group)
	n, err := p.hosts.Client(p.hosts.Index(channel)).Publish(ctx, channel, raw).Result()
	if err != nil {
		return relay.Receipt{}, fmt.Errorf("publishing to %s: %w", group, err)
	}
	return relay.Receipt{Members: int(n)}, nil
}

// Health implements [relay.Broker].
func (p *PubSub) Health() relay.Health {
	state := p.health.Report(p.hosts, p.trouble)
	state.Undecodable, state.Ignored = p.skipped.Undecodable.Load(), p.skipped.Ignored.Load()
	return state
}

// trouble says how many groups are not subscribed although the hosts are well.
func (p *PubSub) trouble() string {
	waiting := 0
	for _, l := range p.links {
		waiting += l.overdue()
	}
	if waiting == 0 {
		return ""
	}
	return fmt.Sprintf("%d groups are not subscribed yet", waiting)
}

// Close implements [relay.Broker].
func (p *PubSub) Close(ctx context.Context) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	started := p.started
	p.mu.Unlock()
	var err error
	if started {
		errs := make([]error, len(p.links))
		var leaving sync.WaitGroup
		for i, l := range p.links { // at once, so that no host waits for another
			leaving.Go(func() { errs[i] = l.leaveAll(ctx) })
		}
		leaving.Wait()
		err = errors.Join(errs...)
		p.stop()
		for _, l := range p.links {
			l.cut()
		}
		p.running.Wait()
	}
	p.hosts.Close()
	if err != nil {
		return fmt.Errorf("leaving the redis_pubsub channel layer: %w", err)
	}
	return nil
}

// LayerID identifies the channel layer, as [Broker.LayerID] does: pub/sub is one for all databases of a Redis, so the text is in the first.
func (p *PubSub) LayerID(ctx context.Context) (string, error) {
	return (&redisnet.Identity{
		Hosts: p.hosts, Key: "edgerelay:pubsub:" + p.place.Prefix, Before: "redis.call('SELECT',0)\n", Healed: p.healed,
	}).Read(ctx)
}

// Set stores a string beside the channel layer, as Python's Redis client does.
func (p *PubSub) Set(ctx context.Context, key, value string, lifetime time.Duration) error {
	return redisnet.Set(ctx, p.hosts.Client(0), key, value, lifetime)
}

var _ relay.Broker = (*PubSub)(nil)

// IgnoredTypes are the types of messages that came for this node's groups and are none of the relay's business.
func (p *PubSub) IgnoredTypes() []string { return p.skipped.IgnoredTypes() }

func (p *PubSub) healed(host int, key string) { p.health.Heal(p.log, p.hosts.Route(host), key) }
