package redis

import (
	"context"
	"crypto/rand"
	"fmt"

	goredis "github.com/redis/go-redis/v9"
)

// identityScript returns what a key holds, after storing a proposal where it holds nothing.
var identityScript = goredis.NewScript(`local id=redis.call('GET',KEYS[1])
if not id then id=ARGV[1] redis.call('SET',KEYS[1],id) end
return id`)

// LayerID identifies the channel layer: nodes that see the same events get the same answer, whatever URL they use. It
// is a random text that the first node stores in Redis, outside the prefix, for Django deletes all that is under it.
func (b *Broker) LayerID(ctx context.Context) (string, error) {
	key := "edgerelay:layer:" + b.place.Prefix
	id, err := identityScript.Run(ctx, b.hosts[0], []string{key}, rand.Text()).Text()
	if err != nil {
		return "", fmt.Errorf("reading or storing %s (the user needs access to edgerelay:*): %w", key, err)
	}
	return id, nil
}

// Set stores a string outside the channel layer, as Python's Redis client does.
func (b *Broker) Set(ctx context.Context, key, value string) error {
	if err := b.hosts[0].Set(ctx, key, value, 0).Err(); err != nil {
		return fmt.Errorf("storing %s: %w", key, err)
	}
	return nil
}
