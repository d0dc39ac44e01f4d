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

	"github.com/edgerelay/edgerelay/relay"
)

// Broker is one node's part in a Redis channel layer. It implements [relay.Broker].
type Broker struct {
	place    Settings // what makes up its Place, such as Prefix; the rest is in settings
	settings atomic.Pointer[inForce]
	log      *slog.Logger

	receiver string // the node's channel name up to and including '!'
	hosts    *ring
	links    []*link // one for each host
	members  *membership
	beats    *heartbeat
	health   *health
	peak     atomic.Int64 // most messages that waited at once
	sink     relay.Sink   // set by Start
	// otherCapacity is set once it was logged that emitters have another.
	otherCapacity atomic.Bool

	mu      sync.Mutex
	started bool
	closed  bool
	stop    context.CancelFunc
	running sync.WaitGroup
}

// New returns a Broker of its own channel name. It connects when it is started.
func New(s Settings, log *slog.Logger) (*Broker, error) {
	settings, err := s.prepare()
	if err != nil {
		return nil, err
	}
	hosts, err := newRing(s.Hosts)
	if err != nil {
		return nil, err
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	b := &Broker{
		place:    s,
		log:      log,
		hosts:    hosts,
		receiver: "specific." + hex.EncodeToString(id[:]) + "!",
	}
	b.settings.Store(settings)
	b.health = newHealth(hosts.size)
	b.members = newMembership(b)
	b.beats = newHeartbeat(b)
	for i := range hosts.size {
		b.links = append(b.links, &link{broker: b, host: i, drains: i == hosts.index(b.receiver), replays: &replays{}})
	}
	return b, nil
}

// Apply changes the settings that can change while the Broker runs: all but what makes up its Place. New keys count from the next
// message on; new addresses, credentials and timeouts mean new connections.
func (b *Broker) Apply(s Settings) error {
	settings, err := s.prepare()
	if err != nil {
		return err
	}
	if s.Place() != b.place.Place() {
		return errors.New("redis channel layer: another place needs another Broker")
	}
	moved, err := b.hosts.apply(s.Hosts)
	if err != nil {
		return err
	}
	b.settings.Store(settings)
	b.health.forgive()
	b.otherCapacity.Store(false)
	if moved {
		for _, l := range b.links {
			l.interrupt()
		}
	}
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
	b.started, b.sink = true, sink
	ctx, cancel := context.WithCancel(context.Background())
	b.stop = cancel
	b.running.Go(func() { b.members.run(ctx) })
	b.running.Go(func() {
		b.health.watch(ctx, b.log, b.Health, "channel layer is not well; clients stay connected and what redis still holds is delivered when it is back")
	})
	b.running.Go(func() { b.beats.run(ctx) })
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
			err = b.hosts.client(b.hosts.index(b.receiver)).Del(ctx, b.channelKey(), b.inflightKey()).Err()
		}
		b.stop()
		for _, l := range b.links {
			l.interrupt()
		}
		stopped := make(chan struct{})
		go func() { b.running.Wait(); close(stopped) }()
		select {
		case <-stopped:
		case <-ctx.Done(): // something waits for a host that hangs, until its connection is closed
			err = errors.Join(err, ctx.Err())
		}
		if err == nil {
			err = b.beats.leave(ctx)
		}
		defer func() { <-stopped }()
	}
	b.hosts.close()
	if err != nil && started {
		b.lost(relay.Loss{Cause: relay.LossShutdown, All: true})
	}
	if err != nil {
		return fmt.Errorf("leaving the redis channel layer (its keys expire by themselves): %w", err)
	}
	return nil
}

// channelKey is where this node's messages wait.
func (b *Broker) channelKey() string { return b.place.Prefix + b.receiver }

// inflightKey is where they are read from. It is short, since every event pays for it, and no emitter's prefix leads to it.
func (b *Broker) inflightKey() string { return inflightKey(b.place.Prefix, b.receiver) }

func inflightKey(prefix, receiver string) string {
	return prefix + "$" + receiver[len("specific."):][:16]
}
