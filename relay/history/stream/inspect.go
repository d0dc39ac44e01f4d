package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
)

// HistoryStats implements [relay.HistoryInspector]. The groups are those that this node has published to or read.
func (s *Store) HistoryStats() relay.HistoryStats {
	stats := relay.HistoryStats{
		Kind: "stream", Recorded: s.recorded.Load(), Reads: s.reads.Load(), Failed: s.failed.Load(), Gaps: s.gapped.Load(),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	stats.Groups = len(s.sizes)
	for _, n := range s.sizes {
		stats.Bytes = min(math.MaxInt64-n, stats.Bytes) + n
	}
	return stats
}

// InspectHistory implements [relay.HistoryInspector].
func (s *Store) InspectHistory(ctx context.Context, group string) (info relay.HistoryInfo, err error) {
	keys := s.keys(group)
	node, err := s.client.MasterForKey(ctx, keys[0])
	if err != nil {
		return info, fmt.Errorf("inspecting the history of %s: %w", group, err)
	}
	pipe := node.Pipeline()
	length := pipe.XLen(ctx, keys[0])
	known := pipe.HMGet(ctx, keys[1], "s", "g")
	streamSize, hashSize := pipe.MemoryUsage(ctx, keys[0]), pipe.MemoryUsage(ctx, keys[1])
	if _, err := pipe.Exec(ctx); err != nil && !isNil(err) {
		return info, fmt.Errorf("inspecting the history of %s: %w", group, err)
	}
	info.Events, info.Bytes = int(length.Val()), streamSize.Val()+hashSize.Val()
	if len(known.Val()) != 2 {
		return info, nil
	}
	if known.Val()[1] != nil {
		info.Gaps = 1 // the newest; earlier ones do not matter any more
	}
	if numbers, _ := known.Val()[0].(string); info.Events > 0 && len(numbers) == 40 {
		micros := func(i int) time.Time { return time.UnixMicro(int64(binary.BigEndian.Uint64([]byte(numbers[8*i:])))) }
		info.Newest, info.Oldest = micros(1), micros(3)
	}
	return info, nil
}

// isNil reports whether Redis has no value.
func isNil(err error) bool { return errors.Is(err, goredis.Nil) }

// setSize notes the bytes of a group's texts.
func (s *Store) setSize(group string, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sizes[group] = bytes
	if len(s.sizes) <= sizesMax {
		return
	}
	for g := range s.sizes {
		if _, ok := s.members[g]; !ok { // known by publications only
			delete(s.sizes, g)
		}
	}
}

// sizesMax is the number of groups above which the sizes of groups without members are forgotten.
const sizesMax = 10_000
