package pubsub

import (
	"context"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// Shards implements [relay.ScriptRunner]: each host is a shard.
func (b *Broker) Shards() int { return b.hosts.Size }

// Shard implements [relay.ScriptRunner].
func (b *Broker) Shard(group string) int { return b.hosts.Index(group) }

// KeyPrefix implements [relay.ScriptRunner].
func (b *Broker) KeyPrefix(_ int, name string) string {
	return "edgerelay:" + name + ":pubsub:" + b.place.Prefix + ":"
}

// RunScript implements [relay.ScriptRunner].
func (b *Broker) RunScript(ctx context.Context, shard int, script string, keys []string, args ...any) (any, error) {
	return redisnet.RunScript(ctx, b.hosts.Client(shard), selectFirst+script, keys, args...)
}

// RunScripts implements [relay.ScriptPipeliner].
func (b *Broker) RunScripts(
	ctx context.Context, shard int, script string, calls []relay.ScriptCall,
) []relay.ScriptReply {
	return redisnet.RunScripts(ctx, b.hosts.Client(shard), selectFirst+script, calls)
}

var _ relay.ScriptPipeliner = (*Broker)(nil)

// selectFirst begins scripts: pub/sub ignores the number of the database, so nodes with different numbers share the
// layer.
const selectFirst = "redis.call('SELECT',0)\n"
