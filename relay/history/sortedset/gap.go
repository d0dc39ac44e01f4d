package sortedset

import (
	"context"
	"slices"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// pending are gaps that Redis does not have yet. Until then, this node answers with them itself.
type pending struct {
	all    []relay.Position            // of all groups of the host
	groups map[string][]relay.Position // by group
}

// pendingMax is the number of pending gaps of a group that keep their position. The newest gap decides about all earlier
// positions.
const pendingMax = 8

func appendGap(list []relay.Position, at relay.Position) []relay.Position {
	if len(list) >= pendingMax {
		list = slices.Delete(list, 0, 1)
	}
	return append(list, at)
}

// MarkGap implements [relay.History]. A loss of unknown groups concerns all groups.
func (s *Store) MarkGap(l relay.Loss) relay.Position {
	if !l.All && len(l.Groups) > 0 {
		return s.markGap(l.Groups)
	}
	if len(s.settings.Load().policy.Rules) == 0 {
		return relay.Position{}
	}
	var newest int64
	for _, h := range s.hosts {
		newest = max(newest, h.newest.Load())
	}
	at := s.nextGap(newest)
	s.stats.gaps.Add(1)
	for _, h := range s.hosts {
		h.mu.Lock()
		h.pending.all = appendGap(h.pending.all, at)
		for _, g := range h.groups {
			g.saw(at)
		}
		h.mu.Unlock()
		h.wakeUp()
	}
	return at
}

// markGap records a gap of groups. The position is zero if no group has a history.
func (s *Store) markGap(groups []string) (at relay.Position) {
	split := s.byHost(groups)
	var newest int64
	for h := range split {
		newest = max(newest, h.newest.Load())
	}
	for h, list := range split {
		h.mu.Lock()
		marked := false
		for _, name := range list {
			g := h.group(name)
			if g == nil {
				continue
			}
			if at.IsZero() {
				at = s.nextGap(newest)
				s.stats.gaps.Add(1)
			}
			h.pending.groups[name] = appendGap(h.pending.groups[name], at)
			g.saw(at)
			g.used, marked = s.now(), true
		}
		h.mu.Unlock()
		if marked {
			h.wakeUp()
		}
	}
	return at
}

// pendingGaps returns the gaps of a group, and of all groups, that Redis does not have yet.
func (h *host) pendingGaps(group string) []relay.Position {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Concat(h.pending.all, h.pending.groups[group])
}

// writeGaps writes the pending gaps.
func (h *host) writeGaps(ctx context.Context) error {
	h.mu.Lock()
	all := slices.Clone(h.pending.all)
	groups := make(map[string][]relay.Position, len(h.pending.groups))
	for name, list := range h.pending.groups {
		groups[name] = slices.Clone(list)
	}
	h.mu.Unlock()
	if len(all) > 0 {
		if err := h.writeGapsOfAll(ctx, all); err != nil {
			return err
		}
	}
	names := make([]string, 0, len(groups))
	for name := range groups {
		names = append(names, name)
	}
	for chunk := range slices.Chunk(names, pipelineMax) {
		if err := h.writeGapsOf(ctx, chunk, groups); err != nil {
			return err
		}
	}
	return nil
}

// gapsKept is the number of gaps that are kept for each group, and for all groups. The newest gap decides about all
// positions before it, and the second about the newest one's own.
const gapsKept = 16

func (h *host) writeGapsOfAll(ctx context.Context, all []relay.Position) error {
	key := h.store.gapsKey()
	write := func() error {
		pipe := h.client().Pipeline()
		pipe.ZAdd(ctx, key, gapEntries(all)...)
		pipe.ZRemRangeByRank(ctx, key, gapsKept, -2) // The last entry is the set's beginning.
		_, err := pipe.Exec(ctx)
		return err
	}
	err := write()
	if redisnet.WrongType(err) { // The next look at the host finds the set without a beginning.
		if err = h.client().Del(ctx, key).Err(); err == nil {
			h.healed(key)
			err = write()
		}
	}
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pending.all = without(h.pending.all, all)
	return nil
}

func (h *host) writeGapsOf(ctx context.Context, names []string, groups map[string][]relay.Position) error {
	pipe := h.client().Pipeline()
	for _, name := range names {
		key := h.store.groupKey(name)
		pipe.ZAdd(ctx, key, gapEntries(groups[name])...)
		if limits, ok := h.store.Limits(name); ok {
			pipe.PExpire(ctx, key, limits.Age+lifetimeMargin)
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		if !redisnet.WrongType(err) {
			return err
		}
		for _, name := range names {
			if err := h.healGroup(ctx, name); err != nil {
				return err
			}
		}
		h.wakeUp()
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, name := range names {
		if left := without(h.pending.groups[name], groups[name]); len(left) > 0 {
			h.pending.groups[name] = left
		} else {
			delete(h.pending.groups, name)
		}
		if g := h.groups[name]; g != nil {
			g.metas += len(groups[name])
		}
	}
	return nil
}

func gapEntries(list []relay.Position) []goredis.Z {
	entries := make([]goredis.Z, len(list))
	for i, at := range list {
		entries[i] = metaEntry(gapKind, at)
	}
	return entries
}

// without returns the positions of a list that are not in another.
func without(list, other []relay.Position) []relay.Position {
	return slices.DeleteFunc(list, func(at relay.Position) bool { return slices.Contains(other, at) })
}
