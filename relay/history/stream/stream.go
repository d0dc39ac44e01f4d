// Package stream is a history in Redis Streams, for a channel layer with publishers that number the events. The
// streams survive every node, and all nodes read the same ones.
//
// A group has a stream with the recent events and a hash with facts about the stream; both share the slot of
// the group's channel. A script stores an event and publishes the event with its number in one step, so that the order
// of the stream is the order of delivery. Numbers are microseconds of the server's clock, each greater than the one
// before. See docs/decisions/history.md#why-does-a-script-number-the-events-of-a-stream
package stream

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/history"
)

// Options are the parts of a [Store].
type Options struct {
	// Client knows the masters of the cluster. It must not follow redirections or retry.
	Client *goredis.ClusterClient
	// Channel returns the channel of a group, and so its slot.
	Channel func(group string) string
	Policy  relay.HistoryPolicy
	Log     *slog.Logger
}

// Store is the history of a node. It implements [relay.History] and [relay.HistoryInspector]. Methods may be called
// concurrently.
type Store struct {
	client  *goredis.ClusterClient
	channel func(group string) string
	log     *slog.Logger
	policy  history.Policy
	mark    uint64 // of gaps that this node marks

	recorded, reads, failed, gapped atomic.Uint64
	newest                          atomic.Int64 // Micros of the newest position that this node has seen
	ahead                           atomic.Int64 // how far Redis's clock is ahead of this node's, in microseconds
	logged                          atomic.Int64 // when a failed write was logged last, in Unix seconds

	mu      sync.Mutex // guards the maps
	members map[string]struct{}
	sizes   map[string]int64       // bytes of the groups that this node knows
	pending map[string]*pendingGap // gaps that are not stored yet
	// gapOfAll is the last gap of all groups, zero if there was none.
	gapOfAll relay.Position
	holes    map[string]int64 // when the last gap because of an unnumbered event was marked

	masters runs
	kick    chan struct{} // gaps are pending
	cancel  context.CancelFunc
	closed  atomic.Bool
	done    chan struct{}
}

var (
	_ relay.History          = (*Store)(nil)
	_ relay.HistoryInspector = (*Store)(nil)
)

// New returns a store, which works until Close.
func New(o Options) *Store {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Store{
		client: o.Client, channel: o.Channel, log: o.Log, mark: rand.Uint64() | 1,
		members: map[string]struct{}{}, sizes: map[string]int64{}, pending: map[string]*pendingGap{},
		holes: map[string]int64{}, kick: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{}),
	}
	s.policy.Set(o.Policy)
	s.wake() // for the clock
	go s.storeGaps(ctx)
	return s
}

// SetPolicy replaces the policy. Stored events keep to the earlier bounds until the next event of their group.
func (s *Store) SetPolicy(p relay.HistoryPolicy) { s.policy.Set(p) }

// Limits implements [relay.History].
func (s *Store) Limits(group string) (relay.HistoryLimits, bool) { return s.policy.Limits(group) }

// keys returns the keys of a group: the stream and the hash.
func (s *Store) keys(group string) []string {
	stream := "edgerelay:history:{" + s.channel(group) + "}"
	return []string{stream, stream + ":meta"}
}

// hashLife is how long Redis keeps the hash after the last event or read. The age is for texts only:
// a client of a quiet group can resume for as long as nothing is missing.
func hashLife(age time.Duration) time.Duration { return max(24*time.Hour, 2*age) }

// Record implements [relay.History]. The publisher has stored the events. An event without a number is in no stream,
// and one with a peer's position is not in this one: clients that resume would miss it.
func (s *Store) Record(events []relay.Event) {
	var holes []string
	for i := range events {
		ev := &events[i]
		if ev.Control != nil || ev.Source == relay.FromLayer && !ev.Position.IsZero() {
			continue
		}
		if _, ok := s.policy.Limits(ev.Group); ok {
			holes = append(holes, ev.Group)
		}
	}
	if len(holes) > 0 {
		s.markHoles(holes)
	}
}

// Joined implements [relay.History]. A stream is complete without members, except for a gap of all groups, which was
// stored for the groups of that time.
func (s *Store) Joined(groups []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range groups {
		if _, ok := s.members[g]; !ok && !s.gapOfAll.IsZero() && s.pending[g] == nil {
			s.addGap(g, s.gapOfAll)
			s.wake()
		}
		s.members[g] = struct{}{}
	}
}

// Left implements [relay.History].
func (s *Store) Left(groups []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range groups {
		delete(s.members, g)
		delete(s.sizes, g)
	}
}

// Close implements [relay.History]. Gaps that cannot be stored before ctx ends are lost.
func (s *Store) Close(ctx context.Context) error {
	if s.closed.Swap(true) {
		return nil
	}
	s.cancel()
	select {
	case <-s.done:
	case <-ctx.Done():
		return fmt.Errorf("closing the history: %w", ctx.Err())
	}
	s.flushGaps(ctx)
	return nil
}

// position returns the position of a number in a stream.
func position(micros int64, mark []byte) relay.Position {
	p := relay.Position{Micros: micros}
	if len(mark) == 8 {
		p.Mark = binary.BigEndian.Uint64(mark)
	}
	return p
}

// newEpoch returns a new epoch: the mark of the positions of a stream.
func newEpoch() string { return bigEndian(rand.Uint64() | 1) }

func bigEndian(n uint64) string { return string(binary.BigEndian.AppendUint64(nil, n)) }

// Note notes the position of an event that has arrived, so that later gaps are behind it.
func (s *Store) Note(p relay.Position) { s.see(p.Micros) }

// see notes the number of an event or of a gap, so that later gaps are behind it.
func (s *Store) see(micros int64) {
	for {
		newest := s.newest.Load()
		if micros <= newest || s.newest.CompareAndSwap(newest, micros) {
			return
		}
	}
}

// learnClock notes Redis's time in an answer to a command of the time asked. The clock may seem to be ahead by the time
// that the answer took, and never behind: a gap must not be before the events that it concerns. Nor may it be far
// behind them, so slow answers do not count.
func (s *Store) learnClock(micros int64, asked time.Time) {
	if time.Since(asked) < slowAnswer {
		s.ahead.Store(micros - asked.UnixMicro())
	}
}

// slowAnswer is well below the slack that a replay from a gap has.
const slowAnswer = 500 * time.Millisecond

// askClock asks a server for its time, if no read has told it.
func (s *Store) askClock(ctx context.Context) {
	if s.ahead.Load() != 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, runsTimeout)
	defer cancel()
	asked := time.Now()
	if at, err := s.client.Time(ctx).Result(); err == nil {
		s.learnClock(at.UnixMicro(), asked)
	}
}

// redisNow returns Redis's time, as far as it is known.
func (s *Store) redisNow() int64 { return time.Now().UnixMicro() + s.ahead.Load() }

// next returns the position of a gap that begins now.
func (s *Store) next() relay.Position {
	for {
		newest := s.newest.Load()
		at := max(newest+1, s.redisNow())
		if s.newest.CompareAndSwap(newest, at) {
			return relay.Position{Micros: at, Mark: s.mark}
		}
	}
}
