package redis

import (
	"context"
	"crypto/rand"
	"fmt"

	goredis "github.com/redis/go-redis/v9"
)

// identityScript returns what a key holds, after storing a proposal where it holds nothing.
const identityScript = `local id=redis.call('GET',KEYS[1])
if not id then id=ARGV[1] redis.call('SET',KEYS[1],id) end
return id`

// LayerID identifies the channel layer: nodes that see the same events get the same answer, whatever URL they use. It
// is a random text that the first node stores in Redis, outside the prefix, for Django deletes all that is under it.
func (b *Broker) LayerID(ctx context.Context) (string, error) {
	return layerID(ctx, b.hosts.client(0), "edgerelay:layer:"+b.place.Prefix, "")
}

// layerID runs identityScript after before.
func layerID(ctx context.Context, client *goredis.Client, key, before string) (string, error) {
	id, err := goredis.NewScript(before+identityScript).Run(ctx, client, []string{key}, rand.Text()).Text()
	if err != nil {
		return "", fmt.Errorf("reading or storing %s (the user needs access to edgerelay:*): %w", key, err)
	}
	return id, nil
}

// Set stores a string outside the channel layer, as Python's Redis client does.
func (b *Broker) Set(ctx context.Context, key, value string) error {
	return set(ctx, b.hosts.client(0), key, value)
}

func set(ctx context.Context, client *goredis.Client, key, value string) error {
	if err := client.Set(ctx, key, value, 0).Err(); err != nil {
		return fmt.Errorf("storing %s: %w", key, err)
	}
	return nil
}
