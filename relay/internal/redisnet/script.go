package redisnet

import (
	"context"
	"errors"
	"sync"

	goredis "github.com/redis/go-redis/v9"
)

// scripts holds the scripts that were run, by text, with their hashes.
var scripts sync.Map

// RunScript runs a Lua script. A nil reply is no error. Integers are int64, texts string, and lists []any.
func RunScript(ctx context.Context, c goredis.Scripter, script string, keys []string, args ...any) (any, error) {
	known, ok := scripts.Load(script)
	if !ok {
		known, _ = scripts.LoadOrStore(script, goredis.NewScript(script))
	}
	reply, err := known.(*goredis.Script).Run(ctx, c, keys, args...).Result()
	if errors.Is(err, goredis.Nil) {
		return nil, nil
	}
	return reply, err
}
