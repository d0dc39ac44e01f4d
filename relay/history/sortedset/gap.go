package sortedset

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strconv"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// pending are gaps that Redis does not have yet. Until then, this node answers with them itself.
type pending struct {
	all    []mark            // of all groups of the host
	groups map[string][]mark // by group
}

// mark is a gap that Redis does not have yet. until is the time of the newest event that clients of this node may have
// got before.
type mark struct {
	relay.Position
	until int64
}

// pendingMax is the number of pending gaps of a group that keep their position. The newest gap decides about all
// earlier positions.
const pendingMax = 8

func appendGap(list []mark, m mark) []mark {
	if len(list) >= pendingMax {
		list = slices.Delete(list, 0, 1)
	}
	return append(list, m)
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
		h.mu.Lock()
		newest = max(newest, h.newest.Load())
		for _, g := range h.groups {
			newest = max(newest, g.newest.Micros)
		}
		h.mu.Unlock()
	}
	at := s.nextGap(newest)
	s.stats.gaps.Add(1)
	for _, h := range s.hosts {
		h.mu.Lock()
		h.pending.all = appendGap(h.pending.all, mark{at, s.soon(newest)})
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
	for h, list := range split {
		h.mu.Lock()
		newest = max(newest, h.newest.Load())
		for _, name := range list {
			if g := h.groups[name]; g != nil {
				newest = max(newest, g.newest.Micros)
			}
		}
		h.mu.Unlock()
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
			h.pending.groups[name] = appendGap(h.pending.groups[name], mark{at, max(g.newest.Micros, g.identified)})
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
func (h *host) pendingGaps(group string) (list []entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	until := h.store.soon(h.newest.Load())
	for _, m := range slices.Concat(h.pending.all, h.pending.groups[group]) {
		list = append(list, entry{kind: gapKind, Position: m.Position, until: max(until, m.until)})
	}
	return list
}

// writeGaps writes the pending gaps.
func (h *host) writeGaps(ctx context.Context) error {
	h.mu.Lock()
	all := slices.Clone(h.pending.all)
	groups := make(map[string][]mark, len(h.pending.groups))
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

// gapsKept is the number of gaps that are kept for each group, and for all groups: those that concern the newest
// positions, so that the others say nothing more.
const gapsKept = 16

// dropGaps removes superfluous gaps of all groups.
func (h *host) dropGaps(ctx context.Context, gaps []entry) error {
	if len(gaps) <= 2*gapsKept {
		return nil
	}
	slices.SortFunc(gaps, func(a, b entry) int { return cmp.Compare(b.until, a.until) })
	var members []any
	for _, g := range gaps[gapsKept:] {
		members = append(members, g.raw)
	}
	return h.client().ZRem(ctx, h.store.gapsKey(), members...).Err()
}

func (h *host) writeGapsOfAll(ctx context.Context, all []mark) error {
	key := h.store.gapsKey()
	write := func() error {
		pipe := h.client().Pipeline()
		pipe.ZAdd(ctx, key, gapEntries(all)...)
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

// writeGapsOf writes the gaps of groups. A gap of a group concerns the positions that are in Redis when it is written:
// the lost events came behind them. Clients of this node that get later events got them after the loss.
// See docs/decisions/history.md#which-positions-does-a-gap-concern
func (h *host) writeGapsOf(ctx context.Context, names []string, groups map[string][]mark) error {
	newest, err := h.newestOf(ctx, names)
	if redisnet.WrongType(err) {
		for _, name := range names {
			if err := h.healGroup(ctx, name); err != nil {
				return err
			}
		}
		h.wakeUp()
		return nil
	}
	if err != nil {
		return err
	}
	pipe := h.client().Pipeline()
	for i, name := range names {
		until := newest[i]
		for _, m := range groups[name] {
			until = max(until, m.until)
			pipe.ZAdd(ctx, h.store.groupKey(name), metaEntry(gapKind, m.Position, uint64(until)))
			until = max(until, m.Micros)
		}
		if limits, ok := h.store.Limits(name); ok {
			pipe.PExpire(ctx, h.store.groupKey(name), limits.Age+lifetimeMargin)
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return err
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

// ends are the first and the last entry of a group's set, which are its newest ones: events have their time as score,
// and all other entries the negative.
type ends [2]*goredis.ZSliceCmd

// newest returns the time of the newest entry, 0 if there is none.
func (e ends) newest() (micros int64) {
	for _, end := range e {
		for _, z := range end.Val() {
			micros = max(micros, int64(math.Min(math.Abs(z.Score), latestMicros)))
		}
	}
	return micros
}

// askNewest adds the commands that read the newest entries of groups.
func (h *host) askNewest(ctx context.Context, pipe goredis.Pipeliner, names []string) []ends {
	list := make([]ends, len(names))
	for i, name := range names {
		key := h.store.groupKey(name)
		list[i] = ends{pipe.ZRangeWithScores(ctx, key, 0, 0), pipe.ZRangeWithScores(ctx, key, -1, -1)}
	}
	return list
}

// newestOf returns the time of the newest entry of each group, 0 for a group without entries.
func (h *host) newestOf(ctx context.Context, names []string) ([]int64, error) {
	pipe := h.client().Pipeline()
	list := h.askNewest(ctx, pipe, names)
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	newest := make([]int64, len(names))
	for i := range list {
		newest[i] = list[i].newest()
	}
	return newest, nil
}

// GapCommands appends the commands that mark a gap in groups of one host, for a pipeline on that host: this node
// becomes a member, and no node received the events until now. A group without entries needs no gap, because there is
// no position to resume from.
func (s *Store) GapCommands(ctx context.Context, dst [][]string, groups []string) ([][]string, error) {
	if len(groups) == 0 {
		return dst, nil
	}
	h := s.host(groups[0])
	newest, err := h.newestOf(ctx, groups)
	if redisnet.WrongType(err) {
		for _, name := range groups {
			if err := h.healGroup(ctx, name); err != nil {
				return dst, err
			}
		}
		return dst, nil
	}
	if err != nil {
		return dst, err
	}
	for i, name := range groups {
		limits, ok := s.Limits(name)
		if newest[i] == 0 || !ok {
			continue
		}
		at := s.nextGap(newest[i])
		s.stats.gaps.Add(1)
		z := metaEntry(gapKind, at, uint64(newest[i]))
		raw, _ := z.Member.(string)
		key, lifetime := s.groupKey(name), limits.Age+lifetimeMargin
		dst = append(dst, []string{"ZADD", key, strconv.FormatInt(-at.Micros, 10), raw},
			[]string{"PEXPIRE", key, strconv.FormatInt(lifetime.Milliseconds(), 10)})
	}
	return dst, nil
}

func gapEntries(list []mark) []goredis.Z {
	entries := make([]goredis.Z, len(list))
	for i, m := range list {
		entries[i] = metaEntry(gapKind, m.Position, uint64(m.until))
	}
	return entries
}

// without returns the gaps of a list that are not in another.
func without(list, other []mark) []mark {
	return slices.DeleteFunc(list, func(m mark) bool { return slices.Contains(other, m) })
}
