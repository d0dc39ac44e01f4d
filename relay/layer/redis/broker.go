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
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/asgi"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// Broker is a node's part in a Redis channel layer. It implements [relay.Broker].
type Broker struct {
	place    Settings // for settings that cannot change, such as Prefix
	settings atomic.Pointer[inForce]
	log      *slog.Logger

	hosts   *redisnet.Ring
	readers []*reader // one for each host
	members *memberships
	beats   *heartbeat
	health  *redisnet.Health
	skipped asgi.Skipped
	peak    atomic.Int64 // the most messages that were ever taken at once
	sink    relay.Sink   // set by Start
	// otherCapacity: it was logged that emitters have another capacity.
	otherCapacity atomic.Bool
	life          redisnet.Lifecycle

	messages atomic.Bool // messages of any type are delivered

	history atomic.Pointer[history] // nil: none
	keeping sync.Mutex              // held by KeepHistory
	now     func() time.Time        // the clock of the history; nil: time.Now
	// emitterLag is usualEmitterLag, outside tests.
	emitterLag time.Duration
	ctx        context.Context // of the open broker; set by Start
}

// New returns a Broker with new channel names. Start connects.
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
	b := &Broker{place: s, log: log, hosts: hosts}
	b.settings.Store(settings)
	b.health = redisnet.NewHealth(hosts.Size)
	for i := range hosts.Size {
		b.readers = append(b.readers, newReader(b, i))
	}
	b.members = newMemberships(b)
	b.beats, b.emitterLag = newHeartbeat(b), usualEmitterLag
	return b, nil
}

// newReceiver returns a new channel name, up to and including '!', with messages on a given host of the ring. This node
// has a name for each host, and joins a group with the name of the group's host. So an event passes through one host,
// and a host that hangs affects no other host's groups.
func newReceiver(hosts *redisnet.Ring, host int) string {
	for {
		var id [16]byte
		_, _ = rand.Read(id[:]) // never fails
		if name := "specific." + hex.EncodeToString(id[:]) + "!"; hosts.Index(name) == host {
			return name
		}
	}
}

// Apply changes the settings of an open Broker. They must have the same Place. New keys count from the next message;
// new addresses, credentials and timeouts mean new connections.
func (b *Broker) Apply(s Settings) error {
	settings, err := s.prepare()
	if err != nil {
		return err
	}
	if s.Place() != b.place.Place() {
		return errors.New("redis channel layer: another place needs another Broker")
	}
	moved, err := b.hosts.Apply(s.Hosts)
	if err != nil {
		return err
	}
	b.settings.Store(settings)
	if h := b.history.Load(); h != nil {
		h.SetEncryptionKeys(s.EncryptionKeys)
	}
	b.skipped.ResetLog()
	b.otherCapacity.Store(false)
	if moved {
		b.hosts.WarnIgnored(b.log)
		for _, r := range b.readers {
			r.interrupt()
		}
	}
	b.members.rewriteAll() // GroupExpiry may have changed.
	return nil
}

// Start implements [relay.Broker].
func (b *Broker) Start(sink relay.Sink) error {
	return b.life.Start("redis", func(ctx context.Context) {
		b.sink = sink
		for _, r := range b.readers { // The first beat tells how long a mailbox is unread.
			r.lookedAt.Store(time.Now().UnixNano())
		}
		b.keeping.Lock()
		b.ctx = ctx
		if h := b.history.Load(); h != nil {
			h.start(ctx)
		}
		b.keeping.Unlock()
		for _, r := range b.members.hosts {
			b.life.Go(func() { r.run(ctx) })
		}
		b.life.Go(func() {
			redisnet.Watch(ctx, b.log, "events wait in redis, as far as it holds them", b.health.LastLoss, b.Health)
		})
		for host := range b.beats.hosts {
			b.beats.start(ctx, host)
		}
		for _, r := range b.readers {
			r.sink = sink
			b.life.Go(func() { r.run(ctx) })
		}
	})
}

// Join implements [relay.Broker].
func (b *Broker) Join(ctx context.Context, groups ...string) error {
	return b.members.join(ctx, groups)
}

// Leave implements [relay.Broker].
func (b *Broker) Leave(groups ...string) { b.members.leave(groups) }

// Close implements [relay.Broker].
func (b *Broker) Close(ctx context.Context) error {
	first, started := b.life.Close()
	if !first {
		return nil
	}
	var err error
	if started {
		staying := make([]bool, b.hosts.Size)
		err = b.eachHost(func(host int) error {
			if staying[host] = b.stays(host); staying[host] {
				return b.endHost(ctx, host)
			}
			unread := b.readers[host].loss(relay.LossShutdown)
			err := b.leaveHost(ctx, host)
			if err != nil && (unread.All || len(unread.Groups) > 0) {
				b.lost(unread)
			}
			return err
		})
		stopped := b.life.Stop()
		for _, r := range b.readers {
			r.interrupt()
		}
		select {
		case <-stopped:
			err = errors.Join(err, b.eachHost(func(host int) error {
				if !staying[host] {
					return nil
				}
				return b.leaveBehind(ctx, host)
			}), b.endHistory(ctx))
		case <-ctx.Done(): // A goroutine waits for a host that hangs, until the hosts are closed below.
			err = errors.Join(err, ctx.Err())
		}
		defer func() { <-stopped }()
	}
	b.hosts.Close()
	if err != nil {
		return fmt.Errorf("leaving the redis channel layer (its keys expire by themselves): %w", err)
	}
	return nil
}

// endHistory stops the history, once everything was stored.
func (b *Broker) endHistory(ctx context.Context) error {
	if h := b.history.Load(); h != nil {
		return h.end(ctx)
	}
	return nil
}

// eachHost calls fn for every host at once, so that no host waits for another, and joins the errors.
func (b *Broker) eachHost(fn func(host int) error) error {
	if b.hosts.Size == 1 {
		return fn(0)
	}
	errs := make([]error, b.hosts.Size)
	var asking sync.WaitGroup
	for host := range errs {
		asking.Go(func() {
			if err := fn(host); err != nil {
				errs[host] = fmt.Errorf("redis %s: %w", b.hosts.Route(host).Addr(), err)
			}
		})
	}
	asking.Wait()
	return errors.Join(errs...)
}

// leaveHost leaves the groups of a host, delivers the messages there, and deletes this node's keys.
func (b *Broker) leaveHost(ctx context.Context, host int) error {
	r := b.readers[host]
	if err := b.members.hosts[host].leaveAll(ctx); err != nil {
		return err
	}
	if err := r.finish(ctx); err != nil {
		return err
	}
	if err := b.hosts.Client(host).Del(ctx, r.channelKey(), r.inflightKey()).Err(); err != nil {
		return err
	}
	return b.beats.leave(ctx, host)
}

// LayerID identifies the channel layer: nodes that see the same events get the same ID, whatever URL they use. The ID
// is a
// random text that the first node stores in Redis, outside the prefix, under which Django deletes all keys.
func (b *Broker) LayerID(ctx context.Context) (string, error) {
	return (&redisnet.Identity{
		Hosts: b.hosts, Key: "edgerelay:layer:" + b.place.Prefix, Healed: b.healed,
	}).Read(ctx)
}

// Set stores a string beside the channel layer, like Python's Redis client.
func (b *Broker) Set(ctx context.Context, key, value string, lifetime time.Duration) error {
	return redisnet.Set(ctx, b.hosts.Client(0), key, value, lifetime)
}

// SwapClaims implements [relay.ClaimKeeper]. All claims are on the first host.
func (b *Broker) SwapClaims(ctx context.Context, swaps []relay.ClaimSwap) ([]string, error) {
	return redisnet.ClaimStore{Client: b.hosts.Client(0), Prefix: b.place.Prefix}.SwapClaims(ctx, swaps)
}

// Capacity implements [relay.Mailbox].
func (b *Broker) Capacity() int { return b.settings.Load().Capacity }

// Peak implements [relay.Mailbox].
func (b *Broker) Peak() int { return int(b.peak.Load()) }

// ReceiveMessages implements [relay.MessageReceiver].
func (b *Broker) ReceiveMessages(on bool) {
	if b.messages.Store(on); on {
		b.skipped.ForgetTypes()
	}
}

// IgnoredTypes implements [relay.IgnoredTypeLister].
func (b *Broker) IgnoredTypes() []string { return b.skipped.IgnoredTypes() }

// Health implements [relay.Broker].
func (b *Broker) Health() relay.Health {
	state := b.health.Report(b.hosts, b.members.trouble)
	state.Undecodable, state.Ignored = b.skipped.Undecodable.Load(), b.skipped.Ignored.Load()
	if h := b.history.Load(); h != nil && state.OK {
		if trouble := h.Trouble(); trouble != "" {
			state.Detail += "; " + trouble
		}
	}
	var example string
	if state.FaultyGroups, example = b.members.faulty(); state.FaultyGroups > 0 && state.OK {
		state.Detail += fmt.Sprintf("; %d groups cannot be joined, such as %s", state.FaultyGroups, example)
	}
	return state
}
