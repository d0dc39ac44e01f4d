package state

import (
	"context"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// Hosts, TLS, Sentinel and Pool are the settings of hosts, as of the channel layer redis.
type (
	Hosts    = redisnet.Hosts
	TLS      = redisnet.TLS
	Sentinel = redisnet.Sentinel
	Pool     = redisnet.Pool
)

// DefaultPrefix is the prefix of channels_redis, so that the state stays if a site names the Redis of its channel
// layer.
const DefaultPrefix = "asgi"

// Connection is a Redis, or several, for the shared state alone. It implements [relay.ScriptPipeliner].
type Connection struct {
	ring   *redisnet.Ring
	prefix string
}

// Connect returns a connection to hosts, which connects when it is used. Several hosts share the plugins among them.
// The prefix begins all keys, after "edgerelay:state:".
func Connect(h Hosts, prefix string) (*Connection, error) {
	if prefix == "" {
		prefix = DefaultPrefix
	}
	ring, err := redisnet.NewRing(h)
	if err != nil {
		return nil, err
	}
	return &Connection{ring, prefix}, nil
}

// Apply changes credentials and other settings of the same hosts.
func (c *Connection) Apply(h Hosts) error {
	_, err := c.ring.Apply(h)
	return err
}

// Close closes the connection.
func (c *Connection) Close() { c.ring.Close() }

// Shards implements [relay.ScriptRunner]: each host is a shard.
func (c *Connection) Shards() int { return c.ring.Size }

// Shard implements [relay.ScriptRunner].
func (c *Connection) Shard(name string) int { return c.ring.Index(name) }

// KeyPrefix implements [relay.ScriptRunner].
func (c *Connection) KeyPrefix(_ int, name string) string {
	return "edgerelay:" + name + ":" + c.prefix + ":"
}

// RunScript implements [relay.ScriptRunner].
func (c *Connection) RunScript(ctx context.Context, shard int, script string, keys []string, args ...any) (any, error) {
	return redisnet.RunScript(ctx, c.ring.Client(shard), script, keys, args...)
}

// RunScripts implements [relay.ScriptPipeliner].
func (c *Connection) RunScripts(
	ctx context.Context, shard int, script string, calls []relay.ScriptCall,
) []relay.ScriptReply {
	return redisnet.RunScripts(ctx, c.ring.Client(shard), script, calls)
}

var _ relay.ScriptPipeliner = (*Connection)(nil)
