package redisnet

import (
	"context"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// Trips counts round trips to Redis and their time.
type trips struct {
	count atomic.Uint64
	nanos atomic.Int64
}

func (t *trips) Add(took time.Duration) {
	t.count.Add(1)
	t.nanos.Add(int64(took))
}

// tripHook counts the round trips of a pooled client. It implements [goredis.Hook].
type tripHook struct{ *trips }

// DialHook implements [goredis.Hook].
func (tripHook) DialHook(next goredis.DialHook) goredis.DialHook { return next }

// ProcessHook implements [goredis.Hook].
func (h tripHook) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmd)
		h.Add(time.Since(began))
		return err
	}
}

// ProcessPipelineHook implements [goredis.Hook].
func (h tripHook) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []goredis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmds)
		h.Add(time.Since(began))
		return err
	}
}
