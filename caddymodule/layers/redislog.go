package layers

import (
	"context"
	"fmt"

	"github.com/caddyserver/caddy/v2"
	goredis "github.com/redis/go-redis/v9"
)

// redisLog forwards the Redis client's log lines to Caddy's log. The client has a single logger for the whole process,
// including the clients of other Caddy plugins, so no line is dropped. The level is debug, because the relay logs
// failures of Redis itself. By default, the client prints each failed attempt to connect to standard error.
// See docs/decisions/layers.md#why-does-the-redis-clients-logger-forward-its-lines
type redisLog struct{}

// Printf implements the client's interface of loggers.
func (redisLog) Printf(_ context.Context, format string, args ...any) {
	caddy.Log().Named("redis").Debug(fmt.Sprintf(format, args...))
}

// In init, rather than when a configuration is loaded: a logger that another plugin sets then takes precedence.
func init() { goredis.SetLogger(redisLog{}) }
