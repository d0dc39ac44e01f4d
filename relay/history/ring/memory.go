package ring

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// drop ends a group's history. s.mu and g.mu are held.
func (r *Ring) drop(s *shard, g *group) {
	r.bytes.Add(-int64(g.texts + g.n*entrySize))
	g.ended, g.entries, g.n = true, nil, 0
	delete(s.groups, g.name)
}

// sweepInterval is the time in which each shard is searched for old events.
const sweepInterval = time.Second

// sweep removes the old events of quiet groups, in one shard after the other.
func (r *Ring) sweep(now int64) {
	last := r.swept.Load()
	if now-last < sweepInterval.Microseconds()/shardCount || !r.swept.CompareAndSwap(last, now) {
		return
	}
	r.sweepShard(&r.shards[r.turn.Add(1)%shardCount], now)
}

// sweepShard removes old events, and the histories of groups without members that are not used any more.
func (r *Ring) sweepShard(s *shard, now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.groups {
		g.mu.Lock()
		if r.trim(g, now); !g.member && now-g.used.Load() > g.limits.Age.Microseconds() {
			r.drop(s, g)
		}
		g.mu.Unlock()
	}
}

// evict ends the histories that were not used for the longest time, if all together exceed the limit.
func (r *Ring) evict() {
	if r.bytes.Load() <= r.limit || !r.evicting.CompareAndSwap(false, true) {
		return
	}
	defer r.evicting.Store(false)
	type candidate struct {
		group *group
		used  int64
	}
	var all []candidate
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.RLock()
		for _, g := range s.groups {
			all = append(all, candidate{g, g.used.Load()})
		}
		s.mu.RUnlock()
	}
	slices.SortFunc(all, func(a, b candidate) int { return cmp.Compare(a.used, b.used) })
	for _, c := range all {
		if r.bytes.Load() <= r.limit-r.limit/10 { // a tenth less, so that this is done seldom
			return
		}
		s := r.shard(c.group.name)
		s.mu.Lock()
		c.group.mu.Lock()
		if !c.group.ended && c.group.n > 0 {
			r.drop(s, c.group)
			r.evicted.Add(1)
		}
		c.group.mu.Unlock()
		s.mu.Unlock()
	}
}

// InspectHistory implements [relay.HistoryInspector].
func (r *Ring) InspectHistory(_ context.Context, name string) (info relay.HistoryInfo, err error) {
	g := r.find(name)
	if g == nil {
		return info, nil
	}
	defer g.mu.Unlock()
	r.trim(g, r.now().UnixMicro())
	info.Events, info.Bytes = g.events, int64(g.texts+g.n*entrySize)
	for i := range g.n {
		switch e := g.entry(i); e.kind {
		case isGap:
			info.Gaps++
		case isEvent:
			at := time.UnixMicro(e.at)
			if info.Oldest.IsZero() || at.Before(info.Oldest) {
				info.Oldest = at
			}
			if at.After(info.Newest) {
				info.Newest = at
			}
		}
	}
	return info, nil
}

// HistoryStats implements [relay.HistoryInspector]. Old events are removed before.
func (r *Ring) HistoryStats() relay.HistoryStats {
	groups, now := 0, r.now().UnixMicro()
	for i := range r.shards {
		s := &r.shards[i]
		r.sweepShard(s, now)
		s.mu.RLock()
		groups += len(s.groups)
		s.mu.RUnlock()
	}
	count := func(c *counter) uint64 { return uint64(c.Load()) }
	return relay.HistoryStats{
		Kind: "ring", Groups: groups, Bytes: r.bytes.Load(), Recorded: count(&r.recorded), Trimmed: count(&r.trimmed),
		Reads: count(&r.reads), Gaps: count(&r.gaps), Evicted: count(&r.evicted),
	}
}
