package redis

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
)

// Broker is one node's part in a Redis channel layer. It implements [relay.Broker].
type Broker struct {
	place    Settings // URLs, Prefix and Serializer; the rest is in settings
	settings atomic.Pointer[Settings]
	log      *slog.Logger

	receiver string // the node's channel name up to and including '!'
	hosts    []*goredis.Client
	links    []*link // one for each host
	members  *membership
	health   *health

	mu      sync.Mutex
	started bool
	closed  bool
	stop    context.CancelFunc
	running sync.WaitGroup
}

// New returns a Broker of its own channel name. It connects when it is started.
func New(s Settings, log *slog.Logger) (*Broker, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	b := &Broker{
		place:    s,
		log:      log,
		receiver: "specific." + hex.EncodeToString(id[:]) + "!",
	}
	b.settings.Store(&s)
	b.health = newHealth(len(s.URLs))
	b.members = newMembership(b)
	for i, url := range s.URLs {
		o, err := options(url)
		if err != nil {
			return nil, err
		}
		b.hosts = append(b.hosts, goredis.NewClient(o))
		b.links = append(b.links, &link{
			broker: b, host: i, options: o, dial: goredis.NewDialer(o),
			drains: i == ringIndex(b.receiver, len(s.URLs)),
		})
	}
	return b, nil
}

// Apply changes the settings that can change while the Broker runs: all but what makes up its Place.
func (b *Broker) Apply(s Settings) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if s.Place() != b.place.Place() {
		return errors.New("redis channel layer: another place needs another Broker")
	}
	b.settings.Store(&s)
	b.members.refreshAll() // group_expiry may have changed
	return nil
}

// Start implements [relay.Broker].
func (b *Broker) Start(sink relay.Sink) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.started || b.closed {
		return fmt.Errorf("redis channel layer: started already: %w", relay.ErrClosed)
	}
	b.started = true
	ctx, cancel := context.WithCancel(context.Background())
	b.stop = cancel
	b.running.Go(func() { b.members.run(ctx) })
	b.running.Go(func() { b.watch(ctx) })
	for _, l := range b.links {
		l.sink = sink
		b.running.Go(func() { l.run(ctx) })
	}
	return nil
}

// Join implements [relay.Broker].
func (b *Broker) Join(ctx context.Context, groups ...string) error {
	return b.members.join(ctx, groups)
}

// Leave implements [relay.Broker].
func (b *Broker) Leave(groups ...string) { b.members.leave(groups) }

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
		err = b.members.leaveAll(ctx)
		for _, l := range b.links {
			if l.drains && err == nil {
				err = l.finish(ctx)
			}
		}
		if err == nil {
			err = b.hosts[ringIndex(b.receiver, len(b.hosts))].Del(ctx, b.channelKey(), b.inflightKey()).Err()
		}
		b.stop()
		for _, l := range b.links {
			l.interrupt()
		}
		b.running.Wait()
	}
	for _, h := range b.hosts {
		_ = h.Close()
	}
	if err != nil {
		return fmt.Errorf("leaving the redis channel layer (its keys expire by themselves): %w", err)
	}
	return nil
}

// channelKey is where this node's messages wait.
func (b *Broker) channelKey() string { return b.place.Prefix + b.receiver }

// inflightKey is where they are read from. It is short, since every event pays for it, and no emitter's prefix leads to it.
func (b *Broker) inflightKey() string {
	return b.place.Prefix + "$" + b.receiver[len("specific."):][:16]
}

// groupHost is the host that keeps a group.
func (b *Broker) groupHost(group string) int { return ringIndex(group, len(b.hosts)) }
