package presence

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Settings are the settings of a [Tracker].
type Settings struct {
	// Store keeps the members.
	Store Store
	// Publish publishes a message in its group.
	Publish func(ctx context.Context, m relay.Message) error
	// Webhooks are called about groups; each has a different ID.
	Webhooks []Webhook
	// Log receives the log lines; nil: none.
	Log *slog.Logger
	// TendInterval is the time between two looks at each shard; the default is 1s.
	TendInterval time.Duration
	// Memory is how long an announcement may wait in the store at most; the default is 10s. If the store is emptied, joins
	// and leaves of this time before are announced again.
	Memory time.Duration
}

// Tracker is a node's part in the presence of a channel layer. Methods may be called concurrently.
type Tracker struct {
	node     string
	store    Store
	publish  func(ctx context.Context, m relay.Message) error
	log      *slog.Logger
	interval time.Duration
	memory   time.Duration

	shards []*shard
	lanes  [laneCount]lane
	calls  webhooks
	stats  counters
	ctx    context.Context // ends with Close or Kill
	stop   context.CancelFunc
	tasks  sync.WaitGroup
	closed atomic.Bool
}

// counters count since the start of a tracker.
type counters struct {
	announced                           [3]atomic.Uint64 // by kindIndex
	unannounced, restored, expelled     atomic.Uint64
	callsQueued, callsDropped           atomic.Uint64
	callsSent, callsFailed, storeFailed atomic.Uint64
}

// Connection identifies one of a node's connections.
type Connection uint64

// New returns a running tracker. [Tracker.Close] ends it.
func New(s Settings) *Tracker {
	t := &Tracker{
		node: rand.Text()[:16], store: s.Store, publish: s.Publish, log: s.Log, interval: s.TendInterval,
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	if t.interval == 0 {
		t.interval = time.Second
	}
	if t.memory = s.Memory; t.memory == 0 {
		t.memory = 10 * time.Second
	}
	t.ctx, t.stop = context.WithCancel(context.Background())
	for i := range t.store.Shards() {
		t.shards = append(t.shards, newShard(t, i))
	}
	t.calls.init(t)
	t.SetWebhooks(s.Webhooks)
	for i := range t.lanes { // before the shards, which wake lanes
		l := &t.lanes[i]
		l.wake = make(chan struct{}, 1)
		t.tasks.Go(func() { t.announceLane(t.ctx, l) })
	}
	for _, s := range t.shards {
		t.tasks.Go(func() { s.run(t.ctx) })
	}
	return t
}

// Node is the node's id in the store.
func (t *Tracker) Node() string { return t.node }

// Enter notes that a connection of a user is in a group. info is a JSON object about the user, or empty; the last one
// counts. Enter does not block. Entering again has no effect.
func (t *Tracker) Enter(key Key, c Connection, info string, p *Policy) {
	t.shardOf(key.Group).enter(key, c, info, p)
}

// Leave notes that a connection is no longer in a group. It does not block. Leaving again has no effect.
func (t *Tracker) Leave(key Key, c Connection) { t.shardOf(key.Group).leave(key, c) }

// Each calls enter for every connection of this node in a group. Meanwhile, no connection may enter or leave.
func (t *Tracker) Each(enter func(key Key, c Connection, info string, p *Policy)) {
	for _, s := range t.shards {
		s.mu.Lock()
		for key, m := range s.members {
			for _, c := range m.conns {
				enter(key, c, m.info, m.policy)
			}
		}
		s.mu.Unlock()
	}
}

func (t *Tracker) shardOf(group string) *shard { return t.shards[t.store.Shard(group)] }

// List returns at most limit members of a group, and their number, after all connections of this node that have entered
// before the call were written to the store. Users in their grace period are members.
func (t *Tracker) List(ctx context.Context, group string, limit int) (Members, error) {
	if err := t.shardOf(group).settled(ctx); err != nil {
		return Members{}, err
	}
	return t.store.List(ctx, group, limit)
}

// errUnavailable is the error while changes cannot be written.
var errUnavailable = errors.New("presence is unavailable; check the channel layer")

// Close releases the node's members, whose grace periods begin, and ends the tracker. The announcements that follow are
// other nodes' business. Close returns when ctx ends at the latest; then the members leave when the lease has ended.
func (t *Tracker) Close(ctx context.Context) error {
	if t.closed.Swap(true) {
		return nil
	}
	var err error
	for _, s := range t.shards {
		s.leaveAll()
	}
	for _, s := range t.shards {
		err = errors.Join(err, s.settled(ctx))
	}
	t.stop()
	t.tasks.Wait()
	if err == nil {
		for i := range t.shards {
			err = errors.Join(err, t.store.Remove(ctx, i, t.node))
		}
	}
	return err
}

// kill ends the tracker as the end of the process does.
func (t *Tracker) kill() {
	t.closed.Store(true)
	t.stop()
	t.tasks.Wait()
}
