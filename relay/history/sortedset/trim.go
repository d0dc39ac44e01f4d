package sortedset

import (
	"context"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

const (
	// ageParts: old events are searched for once in this part of their age, and at most once per tick.
	ageParts = 16
	// limitParts: events are removed once a group exceeds its limits by this part, so that many events share the work. A
	// node that does not know the bytes of the events waits until the group exceeds the limits by looseParts: usually
	// the node that has removed events last does so again.
	limitParts = 8
	looseParts = 4
	// metasMax is the number of entries without text that a node adds before superfluous ones are removed.
	metasMax = 64
	// walkMax is the number of oldest events in one reply.
	walkMax = 128
	// exactMax and exactParts bound the difference between the number of events in Redis and this node's, up to which the
	// node has seen all events: some are on their way.
	exactMax   = 8
	exactParts = 32
	// entryOverhead is about the memory of Redis per entry, besides the text.
	entryOverhead = 100
)

// trimming is the removal of a group's old events.
type trimming struct {
	name         string
	limits       relay.HistoryLimits
	count, bytes int // as this node estimates them
	known        bool

	metas       *goredis.ZSliceCmd
	events      *goredis.IntCmd
	old, beyond *goredis.ZSliceCmd // the newest event that is too old, and that is too many
	memory      *goredis.IntCmd
	view        *view
	cut         relay.Position // the newest event to remove
	cutRaw      string
	entries     []entry             // without text
	exact       bool                // the estimates are
	left        func(bytes int) int // the bytes that remain; nil: unknown
}

// due returns the groups that may exceed their limits.
func (h *host) due() (list []*trimming) {
	now := h.store.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, g := range h.groups {
		l, part := g.limits, limitParts
		if !g.exact {
			part = looseParts
		}
		if g.count > 0 && !g.known || g.count > l.Count+l.Count/part || g.bytes > l.Bytes+l.Bytes/part ||
			!g.ageAt.IsZero() && !now.Before(g.ageAt) || g.metas > metasMax {
			list = append(list, &trimming{name: name, limits: l, count: g.count, bytes: g.bytes, known: g.known})
		}
	}
	return list
}

// trim removes the events that exceed the limits of groups. The position of the newest removed event stays.
// See docs/decisions/history.md#why-does-an-anchor-remain-of-removed-events
func (h *host) trim(ctx context.Context, list []*trimming) error {
	pipe := h.client().Pipeline()
	for _, t := range list {
		t.ask(ctx, h, pipe)
	}
	// MEMORY USAGE may be forbidden.
	if _, err := pipe.Exec(ctx); err != nil && !redisnet.IsReply(err) {
		return err
	}
	for _, t := range list {
		if redisnet.WrongType(t.metas.Err()) {
			if err := h.healGroup(ctx, t.name); err != nil {
				return err
			}
			continue
		}
		for _, cmd := range []goredis.Cmder{t.metas, t.events, t.old} {
			if err := cmd.Err(); err != nil {
				return err
			}
		}
		if err := h.trimGroup(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// ask adds the commands that find out what exceeds the limits.
func (t *trimming) ask(ctx context.Context, h *host, pipe goredis.Pipeliner) {
	key := h.store.groupKey(t.name)
	t.metas = pipe.ZRangeByScoreWithScores(ctx, key, &goredis.ZRangeBy{Min: "-inf", Max: "(0"})
	t.events = pipe.ZCount(ctx, key, "1", "+inf")
	oldest := h.store.now().Add(-t.limits.Age).UnixMicro()
	t.old = pipe.ZRevRangeByScoreWithScores(ctx, key, &goredis.ZRangeBy{Max: score(oldest), Min: "1", Count: 1})
	// Events have the highest scores.
	t.beyond = pipe.ZRevRangeWithScores(ctx, key, int64(t.limits.Count), int64(t.limits.Count))
	if !t.known {
		t.memory = pipe.MemoryUsage(ctx, key, walkMax)
	}
}

// estimate returns the number of events and an estimate of their bytes.
func (t *trimming) estimate() (count, bytes int) {
	count = int(t.events.Val())
	switch {
	case count == t.count:
		return count, t.bytes
	case t.memory != nil && t.memory.Err() == nil && count > t.count: // Other nodes wrote before.
		return count, max(int(t.memory.Val())-count*entryOverhead, t.bytes)
	case t.count > 0: // Other nodes have written, or removed.
		return count, int(int64(t.bytes) * int64(count) / int64(t.count))
	}
	return count, count * entryOverhead
}

// trimGroup removes the events of a group that exceed the limits.
func (h *host) trimGroup(ctx context.Context, t *trimming) error {
	for _, z := range t.metas.Val() {
		raw, _ := z.Member.(string)
		t.entries = append(t.entries, decode(raw, z.Score, t.name, nil))
	}
	t.view = newView(t.entries, 0)
	count, bytes := t.estimate()
	if count == 0 && len(t.entries) == 0 && t.known && t.count > 0 { // Deleted by Redis, or another program.
		h.store.markGap([]string{t.name})
	}
	for _, candidate := range [][]goredis.Z{t.old.Val(), t.beyond.Val()} {
		for _, z := range candidate {
			if z.Score > 0 {
				t.cutAt(z)
			}
		}
	}
	difference := max(count-t.count, t.count-count)
	t.exact = difference <= exactMax+count/exactParts
	if bytes > t.limits.Bytes {
		walk := h.walkOldest
		if !t.exact || count <= walkMax {
			walk, t.exact = h.walkNewest, true
		}
		if err := walk(ctx, t, bytes-t.limits.Bytes); err != nil {
			return err
		}
	}
	removed, err := h.remove(ctx, t)
	if err != nil {
		return err
	}
	h.store.stats.trimmed.Add(uint64(removed))
	h.trimmed(t, count, bytes, removed)
	return nil
}

// cutAt makes an event the newest one to remove, unless a newer one is.
func (t *trimming) cutAt(z goredis.Z) {
	raw, _ := z.Member.(string)
	if at := decode(raw, z.Score, t.name, nil).Position; at.Compare(t.cut) > 0 {
		t.cut, t.cutRaw, t.left = at, raw, nil
	}
}

// walkOldest reads the oldest events until their texts have a number of bytes.
func (h *host) walkOldest(ctx context.Context, t *trimming, excess int) error {
	key, sum := h.store.groupKey(t.name), 0
	for from := int64(0); ; from += walkMax {
		list, err := h.client().ZRangeByScoreWithScores(ctx, key,
			&goredis.ZRangeBy{Min: "1", Max: "+inf", Offset: from, Count: walkMax}).Result()
		if err != nil {
			return err
		}
		for _, z := range list {
			if sum >= excess {
				return nil
			}
			raw, _ := z.Member.(string)
			sum += len(raw) - 1 - markSize
			if t.cutAt(z); t.cutRaw == raw {
				t.left = func(bytes int) int { return bytes - sum }
			}
		}
		if len(list) < walkMax {
			return nil
		}
	}
}

// walkNewest reads the newest events until their texts have more bytes than the limit.
func (h *host) walkNewest(ctx context.Context, t *trimming, _ int) error {
	key, sum := h.store.groupKey(t.name), 0
	for from := int64(0); ; from += walkMax {
		list, err := h.client().ZRevRangeByScoreWithScores(ctx, key,
			&goredis.ZRangeBy{Min: "1", Max: "+inf", Offset: from, Count: walkMax}).Result()
		if err != nil {
			return err
		}
		for _, z := range list {
			raw, _ := z.Member.(string)
			size := len(raw) - 1 - markSize
			if sum+size > t.limits.Bytes {
				t.cutAt(z)
			}
			if at := decode(raw, z.Score, t.name, nil).Position; at.Compare(t.cut) <= 0 {
				t.left = func(int) int { return sum }
				return nil
			}
			sum += size
		}
		if len(list) < walkMax {
			t.left = func(int) int { return sum }
			return nil
		}
	}
}

// remove removes the events up to the cut, and superfluous entries. Late writes below the anchor are ignored by
// readers, and removed the next time.
func (h *host) remove(ctx context.Context, t *trimming) (removed int, err error) {
	key := h.store.groupKey(t.name)
	floor := t.view.floor
	pipe := h.client().TxPipeline()
	if t.cut.Compare(floor) > 0 {
		floor = t.cut
		pipe.ZAdd(ctx, key, metaEntry(anchorKind, floor))
	}
	var members []any
	for _, raw := range t.view.compact(t.entries, floor) {
		members = append(members, raw)
	}
	if len(members) > 0 {
		pipe.ZRem(ctx, key, members...)
	}
	if t.cut.IsZero() && len(members) == 0 {
		return 0, nil
	}
	counts := removeEvents(ctx, pipe, key, t)
	_, err = pipe.Exec(ctx)
	if err != nil && (strings.HasPrefix(err.Error(), "OOM") || strings.HasPrefix(err.Error(), "EXECABORT")) {
		// Without memory for an anchor, the events go and a gap stays.
		h.store.markGap([]string{t.name})
		plain := h.client().Pipeline()
		counts = removeEvents(ctx, plain, key, t)
		_, err = plain.Exec(ctx)
	}
	for _, c := range counts {
		removed += int(c.Val())
	}
	return removed, err
}

// removeEvents adds the commands that remove the events up to the cut. Others of the same microsecond stay.
func removeEvents(ctx context.Context, pipe goredis.Pipeliner, key string, t *trimming) []*goredis.IntCmd {
	if t.cut.IsZero() {
		return nil
	}
	return []*goredis.IntCmd{
		pipe.ZRemRangeByScore(ctx, key, "1", "("+score(t.cut.Micros)), pipe.ZRem(ctx, key, t.cutRaw),
	}
}

// trimmed notes what is left of a group. count and bytes are from before, and events may have been added since.
func (h *host) trimmed(t *trimming, count, bytes, removed int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	g := h.groups[t.name]
	if g == nil {
		return
	}
	left, leftBytes := max(count-removed, 0), 0
	switch {
	case t.left != nil:
		leftBytes = max(t.left(bytes), 0)
	case count > 0:
		leftBytes = int(int64(bytes) * int64(left) / int64(count))
	}
	g.count += left - t.count
	g.bytes += leftBytes - t.bytes
	g.known, g.exact = true, t.exact
	g.metas = 0
	g.ageAt = time.Time{}
	if g.count > 0 {
		g.ageAt = h.store.now().Add(max(tickInterval, g.limits.Age/ageParts))
	}
}
