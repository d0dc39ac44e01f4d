package cluster

import (
	"context"
	"fmt"
	"hash/crc32"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// scriptShards is the number of hash tags over which keys of scripts are spread. All nodes must have the same number.
const scriptShards = 16

// Shards implements [relay.ScriptRunner].
func (b *Broker) Shards() int { return scriptShards }

// Shard implements [relay.ScriptRunner].
func (b *Broker) Shard(group string) int {
	return int(crc32.ChecksumIEEE([]byte(group)) % scriptShards)
}

// KeyPrefix implements [relay.ScriptRunner].
func (b *Broker) KeyPrefix(shard int, name string) string {
	return fmt.Sprintf("edgerelay:%s:%s:{%d}:", name, b.place.Prefix, shard)
}

// RunScript implements [relay.ScriptRunner].
func (b *Broker) RunScript(ctx context.Context, _ int, script string, keys []string, args ...any) (any, error) {
	return redisnet.RunScript(ctx, b.client, script, keys, args...)
}

// RunScripts implements [relay.ScriptPipeliner].
func (b *Broker) RunScripts(
	ctx context.Context, _ int, script string, calls []relay.ScriptCall,
) []relay.ScriptReply {
	return redisnet.RunScripts(ctx, b.client, script, calls)
}

var _ relay.ScriptPipeliner = (*Broker)(nil)
