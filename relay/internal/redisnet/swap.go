package redisnet

import (
	"context"
	"fmt"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
)

// claimPrefix begins the keys of claims. It is outside the layers' prefixes, under which Django deletes all keys.
const claimPrefix = "edgerelay:claim:"

// swapSource changes a claim whose text is ARGV[1] to ARGV[2], for ARGV[3] milliseconds, and returns its text
// afterwards. A change that arrives again finds its result in place and returns the same.
const swapSource = `local v=redis.call('GET',KEYS[1]) or ''
if v~=ARGV[1] then return v end
if ARGV[2]=='' then redis.call('DEL',KEYS[1]) else redis.call('SET',KEYS[1],ARGV[2],'PX',ARGV[3]) end
return ARGV[2]`

// ClaimStore keeps the claims of a layer in Redis. It implements [relay.ClaimKeeper].
type ClaimStore struct {
	// Client is a host's or a cluster's client.
	Client interface{ Pipeline() goredis.Pipeliner }
	// Prefix is the prefix of the layer, so that layers with different prefixes have different claims.
	Prefix string
	// Before is put before the script.
	Before string
}

// SwapClaims implements [relay.ClaimKeeper], in one round trip. The pipeline sends the whole script with each change:
// it is short, and a host that has restarted would not know its hash.
func (s ClaimStore) SwapClaims(ctx context.Context, swaps []relay.ClaimSwap) ([]string, error) {
	pipe := s.Client.Pipeline()
	results := make([]*goredis.Cmd, len(swaps))
	for i, c := range swaps {
		key := claimPrefix + s.Prefix + ":" + c.Key
		results[i] = pipe.Eval(ctx, s.Before+swapSource, []string{key}, c.From, c.To, max(1, c.Lifetime.Milliseconds()))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("changing claims (the user needs access to %s* and to scripts): %w", claimPrefix, err)
	}
	texts := make([]string, len(swaps))
	for i, r := range results {
		var err error
		if texts[i], err = r.Text(); err != nil {
			return nil, fmt.Errorf("changing claims: %w", err)
		}
	}
	return texts, nil
}
