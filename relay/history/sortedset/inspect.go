package sortedset

import (
	"context"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// InspectHistory implements [relay.HistoryInspector]. Bytes is the memory in Redis if the user may ask for it, and an
// estimate otherwise.
func (s *Store) InspectHistory(ctx context.Context, group string) (info relay.HistoryInfo, err error) {
	if _, ok := s.Limits(group); !ok {
		return info, nil
	}
	h, key := s.host(group), s.groupKey(group)
	pipe := h.client().Pipeline()
	count := pipe.ZCount(ctx, key, "1", "+inf")
	metas := pipe.ZRangeByScoreWithScores(ctx, key, &goredis.ZRangeBy{Min: "-inf", Max: "(0"})
	oldest := pipe.ZRangeByScoreWithScores(ctx, key, &goredis.ZRangeBy{Min: "1", Max: "+inf", Count: 1})
	newest := pipe.ZRevRangeByScoreWithScores(ctx, key, &goredis.ZRangeBy{Min: "1", Max: "+inf", Count: 1})
	memory := pipe.MemoryUsage(ctx, key)
	if _, err := pipe.Exec(ctx); err != nil && !redisnet.IsReply(err) {
		return info, err
	}
	if err := count.Err(); err != nil {
		return info, err
	}
	info.Events = int(count.Val())
	for _, z := range metas.Val() {
		raw, _ := z.Member.(string)
		if decode(raw, z.Score, group, nil).kind == gapKind {
			info.Gaps++
		}
	}
	for _, z := range oldest.Val() {
		info.Oldest = time.UnixMicro(int64(z.Score))
	}
	for _, z := range newest.Val() {
		info.Newest = time.UnixMicro(int64(z.Score))
	}
	if info.Bytes = memory.Val(); info.Bytes == 0 {
		h.mu.Lock()
		defer h.mu.Unlock()
		if g := h.groups[group]; g != nil {
			info.Bytes = int64(g.bytes + g.count*entryOverhead)
		}
	}
	return info, nil
}

// HistoryStats implements [relay.HistoryInspector].
func (s *Store) HistoryStats() relay.HistoryStats {
	c := &s.stats
	stats := relay.HistoryStats{
		Kind: "sorted_set", Recorded: c.recorded.Load(), Trimmed: c.trimmed.Load(), Reads: c.reads.Load(),
		Failed: c.failed.Load(), Gaps: c.gaps.Load(), Trouble: s.Trouble(),
	}
	for _, h := range s.hosts {
		h.mu.Lock()
		for _, g := range h.groups {
			if g.count > 0 {
				stats.Groups++
				stats.Bytes += int64(g.bytes + g.count*entryOverhead)
			}
		}
		h.mu.Unlock()
	}
	return stats
}
