package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"
	"unicode/utf8"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// sendScript adds one message to each channel key that has room. KEYS: channel keys. ARGV: score, oldest score to
// keep, expiry in seconds, then message and capacity for each key. It returns how many keys were full, and how many
// hold another type.
var sendScript = goredis.NewScript(`local full,odd=0,0
for i,k in ipairs(KEYS) do
local r=redis.pcall('ZREMRANGEBYSCORE',k,0,ARGV[2])
if type(r)=='table' and r.err then
if string.sub(r.err,1,9)~='WRONGTYPE' then return r end
odd=odd+1
elseif redis.call('ZCARD',k)<tonumber(ARGV[3+2*i]) then
redis.call('ZADD',k,ARGV[1],ARGV[2+2*i])
redis.call('EXPIRE',k,ARGV[3])
else
full=full+1
end
end
return {full,odd}`)

// Publish implements [relay.Broker], as RedisChannelLayer.group_send does.
// See docs/decisions/layers.md#why-is-sending-never-retried-blindly
func (b *Broker) Publish(ctx context.Context, group string, text []byte) (relay.Receipt, error) {
	if err := relay.CheckGroup(group); err != nil {
		return relay.Receipt{}, fmt.Errorf("publishing: %w", err)
	}
	if !utf8.Valid(text) {
		return relay.Receipt{}, fmt.Errorf("publishing to %s: the text is not UTF-8", group)
	}
	s := b.settings.Load()
	now := time.Now()
	key := groupKey(s.Prefix, group)

	var members []string
	pool := s.Pool.WithDefaults()
	for attempt := 0; ; attempt++ { // connections that a restart of Redis broke are found out here, where trying again is harmless
		pipe := b.hosts.Client(b.hosts.Index(group)).Pipeline()
		pipe.ZRemRangeByScore(ctx, key, "0", strconv.FormatInt(now.Add(-s.GroupExpiry).Unix(), 10))
		list := pipe.ZRange(ctx, key, 0, -1)
		_, err := pipe.Exec(ctx)
		if err == nil {
			members = list.Val()
			break
		}
		if redisnet.WrongType(err) {
			return relay.Receipt{}, fmt.Errorf("publishing to %s: %w; delete the key %s", group, err, key)
		}
		if attempt >= pool.Retries || ctx.Err() != nil {
			return relay.Receipt{}, fmt.Errorf("publishing to %s: %w", group, err)
		}
		select {
		case <-time.After(pool.Backoff(attempt)):
		case <-ctx.Done():
		}
	}
	receipt := relay.Receipt{Members: len(members)}

	byReceiver := map[string][]string{}
	for _, m := range members {
		byReceiver[receiver(m)] = append(byReceiver[receiver(m)], m)
	}
	sends := make([]send, b.hosts.Size)
	for r, channels := range byReceiver {
		raw, err := s.codec.Encode(text, channels)
		if err != nil {
			return receipt, fmt.Errorf("publishing to %s: %w", group, err)
		}
		to := &sends[b.hosts.Index(r)]
		if to.args == nil {
			to.args = []any{
				strconv.FormatFloat(float64(now.UnixMicro())/1e6, 'f', 6, 64),
				now.Add(-s.Expiry).Unix(),
				int64(s.Expiry / time.Second),
			}
		}
		to.keys = append(to.keys, s.Prefix+r)
		to.args = append(to.args, raw, s.capacity(channels[0]))
	}
	var full atomic.Int64
	err := b.eachHost(func(host int) error { // members of other nodes may be on a host that hangs
		n, err := sends[host].run(ctx, b.hosts.Client(host))
		full.Add(n)
		return err
	})
	receipt.OverCapacity = int(full.Load())
	if err != nil {
		return receipt, fmt.Errorf("publishing to %s: %w", group, err)
	}
	return receipt, nil
}

// send is what one host gets of an event: a message for each of some channel keys.
type send struct {
	keys []string
	args []any
}

// run sends it and returns how many keys were full.
func (s send) run(ctx context.Context, host *goredis.Client) (full int64, err error) {
	if len(s.keys) == 0 {
		return 0, nil
	}
	counts, err := sendScript.Run(ctx, host, s.keys, s.args...).Int64Slice()
	if err != nil {
		return 0, err
	}
	if len(counts) != 2 {
		return 0, errors.New("the script's answer cannot be understood")
	}
	if counts[1] > 0 {
		return counts[0], fmt.Errorf("%d of %d members do not get it: their keys are not sorted sets", counts[1],
			len(s.keys))
	}
	return counts[0], nil
}
