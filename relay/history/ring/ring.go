// Package ring is a history in the memory of a process, for channel layers that keep nothing. Other nodes do not see
// the history: a position from another process is unknown here, unless a peer has sent the event with it.
//
// The order of a group is the order of positions. The ring numbers the events of this node itself, later than every
// position that it has seen; events of peers keep the peer's position. An event that arrives more than
// [relay.HistorySlack] behind the newest of its group is kept, with a gap: a client may have a newer position already.
package ring

import (
	"context"
	"hash/maphash"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/history"
)

// Ring is a [relay.History] in memory. Methods may be called concurrently.
// See docs/decisions/history.md#why-does-a-ring-order-by-position
type Ring struct {
	now    func() time.Time
	policy history.Policy
	mark   uint64       // of the positions that this ring makes: nothing is known about other processes' positions
	last   atomic.Int64 // Micros of the last position
	seed   maphash.Seed
	shards [shardCount]shard
	limit  int64 // of bytes

	bytes, recorded, trimmed, reads, gaps, evicted counter
	swept                                          atomic.Int64 // when a shard was swept last, in Unix microseconds
	turn                                           atomic.Uint32
	evicting                                       atomic.Bool
}

// counter has a cache line of its own, so that groups on different processors do not slow each other down.
type counter struct {
	atomic.Int64
	_ [56]byte
}

const (
	shardCount = 64
	// DefaultLimit is the memory that a ring may use in bytes: texts and entries.
	DefaultLimit = 256 << 20
	// maxAhead is the greatest difference by which the clock of a peer may be ahead, in microseconds.
	maxAhead = 600_000_000
)

// shard is a part of the groups.
type shard struct {
	mu      sync.RWMutex
	groups  map[string]*group
	members map[string]struct{} // groups that the node receives the events of
	_       [64]byte
}

var (
	_ relay.History          = (*Ring)(nil)
	_ relay.HistoryInspector = (*Ring)(nil)
)

// New returns an empty ring with a policy. now is the clock, time.Now outside tests.
func New(policy relay.HistoryPolicy, now func() time.Time) *Ring {
	return NewLimited(policy, now, DefaultLimit)
}

// NewLimited returns a ring that uses at most limit bytes. Beyond the limit, the histories of the groups end that were
// neither written nor read for the longest time.
func NewLimited(policy relay.HistoryPolicy, now func() time.Time, limit int64) *Ring {
	r := &Ring{now: now, mark: rand.Uint64() | 1, seed: maphash.MakeSeed(), limit: limit}
	r.policy.Set(policy)
	for i := range r.shards {
		r.shards[i].groups, r.shards[i].members = map[string]*group{}, map[string]struct{}{}
	}
	return r
}

// SetPolicy replaces the policy. Histories of groups that no longer have one end.
func (r *Ring) SetPolicy(p relay.HistoryPolicy) {
	r.policy.Set(p)
	now := r.now().UnixMicro()
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		for name, g := range s.groups {
			g.mu.Lock()
			limits, ok := p.Limits(name)
			if ok {
				g.limits = limits
				r.trim(g, now)
			} else {
				r.drop(s, g)
			}
			g.mu.Unlock()
		}
		s.mu.Unlock()
	}
}

// Limits implements [relay.History].
func (r *Ring) Limits(name string) (relay.HistoryLimits, bool) { return r.policy.Limits(name) }

// Record implements [relay.History]. Events with a position, from peers, keep it. An event with the position of another
// one that is still kept is the same event, and is ignored.
func (r *Ring) Record(events []relay.Event) {
	var (
		now      int64
		recorded int64
		g        *group // of the event before, locked
	)
	for i := range events {
		ev := &events[i]
		if ev.Control != nil {
			continue
		}
		if g == nil || g.name != ev.Group {
			limits, ok := r.policy.Limits(ev.Group)
			if !ok {
				continue
			}
			if g != nil {
				g.mu.Unlock()
			}
			if now == 0 {
				now = r.now().UnixMicro()
			}
			g = r.locked(ev.Group, limits)
			g.used.Store(now)
		}
		if r.record(g, ev, now) {
			recorded++
		}
	}
	if g == nil {
		return
	}
	g.mu.Unlock()
	r.recorded.Add(recorded)
	r.sweep(now)
	r.evict()
}

// record keeps an event, and reports whether it is new. g.mu is held.
func (r *Ring) record(g *group, ev *relay.Event, now int64) bool {
	own := ev.Position.IsZero()
	if own {
		ev.Position = r.next(now)
	} else if !r.follow(ev.Position.Micros, now) {
		r.markGap(g, r.next(now), now)
		return false
	}
	g.mixed = g.mixed || !own || ev.Source == relay.FromPeer
	newest := g.newest()
	if g.has(ev.Position) {
		return false
	}
	text := make([]byte, len(ev.Text)) // a copy, because the text may be a part of a large buffer
	copy(text, ev.Text)
	e := entry{
		kind: isEvent, at: now, position: ev.Position, text: text, eventType: strings.Clone(ev.Type),
		needsRelay: ev.NeedsRelay, foreign: ev.Foreign || ev.Source == relay.FromPeer,
	}
	if !ev.Sent.IsZero() {
		e.sent = ev.Sent.UnixNano()
	}
	r.add(g, e)
	if ev.Position.Micros < newest.Micros-relay.HistorySlack {
		r.markGap(g, r.next(now), now)
	}
	r.trim(g, now)
	return true
}

// next returns a new position, behind all that the ring has seen.
func (r *Ring) next(now int64) relay.Position {
	for {
		last := r.last.Load()
		if at := max(last+1, now); r.last.CompareAndSwap(last, at) {
			return relay.Position{Micros: at, Mark: r.mark}
		}
	}
}

// follow notes a peer's position, so that later events of this node are behind it, and returns false if the peer's
// clock is too far ahead for that.
func (r *Ring) follow(micros, now int64) bool {
	if micros > now+maxAhead {
		return false
	}
	for {
		last := r.last.Load()
		if micros <= last || r.last.CompareAndSwap(last, micros) {
			return true
		}
	}
}

// shard returns a group's shard.
func (r *Ring) shard(name string) *shard { return &r.shards[maphash.String(r.seed, name)%shardCount] }

// find returns a group's history, locked; nil if there is none yet.
func (r *Ring) find(name string) *group {
	s := r.shard(name)
	for {
		s.mu.RLock()
		g := s.groups[name]
		s.mu.RUnlock()
		if g == nil {
			return nil
		}
		if g.mu.Lock(); !g.ended {
			return g
		}
		g.mu.Unlock() // dropped meanwhile, and perhaps begun again
	}
}

// locked returns a group's history, locked. It begins with the first call.
func (r *Ring) locked(name string, limits relay.HistoryLimits) *group {
	for {
		if g := r.find(name); g != nil {
			return g
		}
		s := r.shard(name)
		s.mu.Lock()
		if s.groups[name] == nil {
			if current, ok := r.policy.Limits(name); ok {
				limits = current
			}
			_, member := s.members[name]
			s.groups[name] = &group{name: name, limits: limits, member: member}
		}
		s.mu.Unlock()
	}
}

// Joined implements [relay.History].
func (r *Ring) Joined(groups []string) {
	now := r.now().UnixMicro()
	for _, name := range groups {
		s := r.shard(name)
		s.mu.Lock()
		s.members[name] = struct{}{} // of groups without history, too: the policy may change
		s.mu.Unlock()
		if g := r.find(name); g != nil {
			if !g.member {
				g.member = true
				r.markGap(g, r.next(now), now) // events since the node left are unknown
			}
			g.mu.Unlock()
		}
	}
}

// Left implements [relay.History].
func (r *Ring) Left(groups []string) {
	for _, name := range groups {
		s := r.shard(name)
		s.mu.Lock()
		delete(s.members, name)
		s.mu.Unlock()
		if g := r.find(name); g != nil {
			g.member = false
			g.mu.Unlock()
		}
	}
	r.sweep(r.now().UnixMicro())
}

// MarkGap implements [relay.History].
func (r *Ring) MarkGap(l relay.Loss) relay.Position {
	now := r.now().UnixMicro()
	at := r.next(now)
	r.gaps.Add(1)
	if l.All {
		r.each(func(g *group) { r.markGap(g, at, now) })
		return at
	}
	for _, name := range l.Groups {
		limits, ok := r.policy.Limits(name)
		if !ok {
			continue
		}
		g := r.locked(name, limits)
		g.used.Store(now)
		r.markGap(g, at, now)
		g.mu.Unlock()
	}
	return at
}

// each calls fn with every group, locked.
func (r *Ring) each(fn func(*group)) {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.RLock()
		for _, g := range s.groups {
			g.mu.Lock()
			fn(g)
			g.mu.Unlock()
		}
		s.mu.RUnlock()
	}
}

// Read implements [relay.History].
func (r *Ring) Read(_ context.Context, queries []relay.HistoryQuery) []relay.HistoryPage {
	now := r.now().UnixMicro()
	pages := make([]relay.HistoryPage, len(queries))
	for i, q := range queries {
		limits, ok := r.policy.Limits(q.Group)
		if !ok {
			pages[i].Err = relay.NotRecoveredOff
			continue
		}
		g := r.locked(q.Group, limits)
		g.used.Store(now)
		r.trim(g, now)
		r.ensureHead(g, now)
		pages[i] = g.read(q)
		g.mu.Unlock()
		r.reads.Add(1)
	}
	r.sweep(now)
	return pages
}

// Close implements [relay.History].
func (r *Ring) Close(context.Context) error { return nil }
