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

// sendScript adds one message to each channel key below its capacity. KEYS: channel keys. ARGV: score, oldest score to
// keep, expiry in seconds, then message and capacity for each key. The result is the number of full keys and of keys of
// another type.
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
	codec := &b.settings.Load().codec
	return b.publish(ctx, group, func(channels []string) ([]byte, error) { return codec.Encode(text, channels) })
}

// PublishMessage implements [relay.MessagePublisher].
func (b *Broker) PublishMessage(ctx context.Context, m relay.Message) (relay.Receipt, error) {
	if err := relay.CheckGroup(m.Group); err != nil {
		return relay.Receipt{}, fmt.Errorf("publishing: %w", err)
	}
	codec := &b.settings.Load().codec
	packed, err := codec.Pack(&m)
	if err != nil {
		return relay.Receipt{}, fmt.Errorf("publishing to %s: %w", m.Group, err)
	}
	return b.publish(ctx, m.Group, func(channels []string) ([]byte, error) {
		return codec.EncodePacked(packed, channels)
	})
}

// encoder encodes a message for channels of one mailbox.
type encoder func(channels []string) ([]byte, error)

// publish sends a message to the members of a group.
func (b *Broker) publish(ctx context.Context, group string, encode encoder) (relay.Receipt, error) {
	receipt, err := b.sendToAll(ctx, group, encode)
	if err != nil {
		err = fmt.Errorf("publishing to %s: %w", group, err)
	}
	return receipt, err
}

func (b *Broker) sendToAll(ctx context.Context, group string, encode encoder) (receipt relay.Receipt, err error) {
	s, now := b.settings.Load(), time.Now()
	members, err := b.groupMembers(ctx, s, group, now)
	if err != nil {
		return receipt, err
	}
	receipt.Members = len(members)
	sends, err := b.sends(s, members, encode, now)
	if err != nil {
		return receipt, err
	}
	var full atomic.Int64
	err = b.eachHost(func(host int) error { // Members of other nodes may be on a host that hangs.
		n, err := sends[host].run(ctx, b.hosts.Client(host))
		full.Add(n)
		return err
	})
	receipt.OverCapacity = int(full.Load())
	return receipt, err
}

// groupMembers returns the members of a group. It retries on connections that a restart of Redis broke. That is
// harmless
// before the event is sent.
func (b *Broker) groupMembers(ctx context.Context, s *inForce, group string, now time.Time) ([]string, error) {
	key := groupKey(s.Prefix, group)
	pool := s.Pool.WithDefaults()
	for attempt := 0; ; attempt++ {
		pipe := b.hosts.Client(b.hosts.Index(group)).Pipeline()
		pipe.ZRemRangeByScore(ctx, key, "0", strconv.FormatInt(now.Add(-s.GroupExpiry).Unix(), 10))
		list := pipe.ZRange(ctx, key, 0, -1)
		_, err := pipe.Exec(ctx)
		switch {
		case err == nil:
			return list.Val(), nil
		case redisnet.WrongType(err):
			return nil, fmt.Errorf("%w; delete the key %s", err, key)
		case attempt >= pool.Retries || ctx.Err() != nil:
			return nil, err
		}
		select {
		case <-time.After(pool.Backoff(attempt)):
		case <-ctx.Done():
		}
	}
}

// sends returns the messages to send for an event, by host.
func (b *Broker) sends(s *inForce, members []string, encode encoder, now time.Time) ([]send, error) {
	byReceiver := map[string][]string{}
	for _, m := range members {
		byReceiver[receiver(m)] = append(byReceiver[receiver(m)], m)
	}
	sends := make([]send, b.hosts.Size)
	for r, channels := range byReceiver {
		raw, err := encode(channels)
		if err != nil {
			return nil, err
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
	return sends, nil
}

// send is the part of an event for one host: a message for each of some channel keys.
type send struct {
	keys []string
	args []any
}

// run sends the messages and returns the number of full channel keys.
func (s send) run(ctx context.Context, host *goredis.Client) (full int64, err error) {
	if len(s.keys) == 0 {
		return 0, nil
	}
	counts, err := sendScript.Run(ctx, host, s.keys, s.args...).Int64Slice()
	switch {
	case err != nil:
		return 0, err
	case len(counts) != 2:
		return 0, errors.New("invalid answer of the script")
	case counts[1] > 0:
		return counts[0], fmt.Errorf("%d of %d members get no event: their keys are not sorted sets; delete the keys",
			counts[1], len(s.keys))
	}
	return counts[0], nil
}
