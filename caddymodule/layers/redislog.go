package layers

import (
	"context"
	"fmt"

	"github.com/caddyserver/caddy/v2"
	goredis "github.com/redis/go-redis/v9"
)

// redisLog takes what the Redis client prints. Its logger is one for the whole process, other plugins' clients
// included, so nothing is dropped: the lines are Caddy's, at level debug, since the relay logs its own trouble with
// Redis anyway. By default the client prints each failed attempt to connect to standard error.
// See docs/decisions/layers.md#why-does-the-redis-clients-logger-forward-its-lines
type redisLog struct{}

// Printf implements the client's interface of loggers.
func (redisLog) Printf(_ context.Context, format string, args ...any) {
	caddy.Log().Named("redis").Debug(fmt.Sprintf(format, args...))
}

// Here, rather than when a configuration is loaded: a plugin that sets another logger then has the last word.
func init() { goredis.SetLogger(redisLog{}) }
