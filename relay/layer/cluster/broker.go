package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/history/stream"
	"github.com/edgerelay/edgerelay/relay/internal/asgi"
	"github.com/edgerelay/edgerelay/relay/internal/reconcile"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// Broker is a node's part in the layer. It implements [relay.Broker].
// See docs/decisions/layers.md#why-does-redis-cluster-use-sharded-pubsub
type Broker struct {
	place    Settings // for Addresses and Prefix; credentials are in settings
	settings atomic.Pointer[Settings]
	log      *slog.Logger
	client   *goredis.ClusterClient
	sink     relay.Sink
	history  atomic.Pointer[stream.Store] // nil: no group has a history

	life redisnet.Lifecycle
	ctx  context.Context // ends with Close; set by Start
	kick chan struct{}
	// fillKick: groups are in filling.
	fillKick chan struct{}
	// messages is set if messages of any type are delivered; skipped counts those that are not.
	messages atomic.Bool
	skipped  asgi.Skipped
	// failed: a listener was lost or refused a command, so that the next assignment needs a pause.
	failed atomic.Bool

	mu        sync.Mutex // guards the fields below, and listeners' groups
	closing   bool
	groups    reconcile.Set[assignment]
	filling   []*group // groups with events to read from the history
	listeners map[string]*listener
	known     map[string]bool  // the masters' addresses
	troubles  map[string]error // why there is no connection to a master
	unknown   error            // why the masters are unknown
	refusal   error            // of the last subscription that was refused
	lastLoss  error
	health    health
}

// New returns a Broker. Start connects.
func New(s Settings, log *slog.Logger) (*Broker, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	b := &Broker{
		place: s, log: log, kick: make(chan struct{}, 1), fillKick: make(chan struct{}, 1),
		listeners: map[string]*listener{}, troubles: map[string]error{},
	}
	b.health.since = time.Now()
	b.settings.Store(&s)
	b.client = b.newClient()
	return b, nil
}

// Apply changes the credentials and the TLS configuration. They count for new connections.
func (b *Broker) Apply(s Settings) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if s.Place() != b.place.Place() {
		return errors.New("redis_cluster channel layer: another place needs another Broker")
	}
	b.settings.Store(&s)
	return nil
}

// Start implements [relay.Broker].
func (b *Broker) Start(sink relay.Sink) error {
	return b.life.Start("redis_cluster", func(ctx context.Context) {
		b.ctx, b.sink = ctx, sink
		b.life.Go(func() { b.reconcile(ctx) })
		b.life.Go(func() { b.watchMasters(ctx) })
		b.life.Go(func() { b.watchHealth(ctx) })
		b.life.Go(func() { b.fillGroups(ctx) })
	})
}

// Close implements [relay.Broker]. Events that were published before arrive before the last group is left.
func (b *Broker) Close(ctx context.Context) error {
	first, started := b.life.Close()
	if !first {
		return nil
	}
	b.mu.Lock()
	b.closing = true
	emptied := b.groups.DropAll()
	b.mu.Unlock()
	var err error
	if started {
		b.wake()
		select {
		case <-emptied:
		case <-ctx.Done():
			err = fmt.Errorf("leaving the redis_cluster channel layer (the nodes notice by themselves): %w", ctx.Err())
		}
		<-b.life.Stop()
	}
	if h := b.history.Load(); h != nil {
		if e := h.Close(ctx); err == nil {
			err = e
		}
	}
	_ = b.client.Close()
	return err
}

// dial connects to a node with the current settings.
func (b *Broker) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return b.settings.Load().dial(ctx, network, addr)
}

// masters returns the addresses of the cluster's masters.
func (b *Broker) masters(ctx context.Context) (map[string]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var mu sync.Mutex
	list := map[string]bool{}
	err := b.client.ForEachMaster(ctx, func(_ context.Context, c *goredis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		list[c.Options().Addr] = true
		return nil
	})
	return list, err
}

// LayerID identifies the layer: nodes of the same cluster and prefix see the same events. The ID is a random text
// that the
// first node stores in the cluster.
func (b *Broker) LayerID(ctx context.Context) (string, error) {
	key := "edgerelay:layer:" + b.place.Prefix
	node, err := b.client.MasterForKey(ctx, key)
	if err != nil {
		return "", fmt.Errorf("reading or storing %s: %w", key, err)
	}
	id, err := b.identity(ctx, node, key)
	if err == nil || !strings.HasPrefix(err.Error(), "WRONGTYPE") {
		return id, err
	}
	if err := node.Del(ctx, key).Err(); err != nil { // The key is the relay's own.
		return "", fmt.Errorf("deleting %s: %w", key, err)
	}
	b.health.healed.Add(1)
	b.log.Warn("key of the relay held another type, deleted", "key", key, "host", node.Options().Addr,
		"remedy", "find the program that writes to it")
	return b.identity(ctx, node, key)
}

// identity reads the identity from a node, and stores a new identity if there is none.
func (b *Broker) identity(ctx context.Context, node *goredis.Client, key string) (string, error) {
	if err := node.SetNX(ctx, key, rand.Text(), 0).Err(); err != nil {
		b.client.ReloadState(ctx)
		return "", fmt.Errorf("reading or storing %s (the user needs access to edgerelay:*): %w", key, err)
	}
	return node.Get(ctx, key).Result()
}

// Set stores a string in the cluster.
func (b *Broker) Set(ctx context.Context, key, value string, lifetime time.Duration) error {
	node, err := b.client.MasterForKey(ctx, key)
	if err == nil {
		err = node.Set(ctx, key, value, lifetime).Err()
	}
	if err != nil {
		return fmt.Errorf("storing %s: %w", key, err)
	}
	return nil
}

// SwapClaims implements [relay.ClaimKeeper].
func (b *Broker) SwapClaims(ctx context.Context, swaps []relay.ClaimSwap) ([]string, error) {
	return redisnet.ClaimStore{Client: b.client, Prefix: b.place.Prefix}.SwapClaims(ctx, swaps)
}

// ReceiveMessages implements [relay.MessageReceiver].
func (b *Broker) ReceiveMessages(on bool) {
	if b.messages.Store(on); on {
		b.skipped.ForgetTypes()
	}
}

// IgnoredTypes implements [relay.IgnoredTypeLister].
func (b *Broker) IgnoredTypes() []string { return b.skipped.IgnoredTypes() }

// takes reports whether events of a type are delivered, and counts those that are not.
func (b *Broker) takes(kind string) bool {
	if kind == "" || b.messages.Load() {
		return true
	}
	b.skipped.Ignore(b.log, kind)
	return false
}

var _ relay.Broker = (*Broker)(nil)

var _ interface {
	relay.LayerIdentifier
	relay.KeyStore
	relay.ClaimKeeper
	relay.HistoryKeeper
	relay.IgnoredTypeLister
	relay.MessageReceiver
	relay.MessagePublisher
} = (*Broker)(nil)
