package redis

import (
	"context"
)

// heal deletes a key of the relay's own that holds another type.
func (b *Broker) heal(ctx context.Context, host int, key string) error {
	if err := b.hosts.Client(host).Del(ctx, key).Err(); err != nil {
		return err
	}
	b.healed(host, key)
	return nil
}

// healed counts and logs that a key was deleted.
func (b *Broker) healed(host int, key string) { b.health.Heal(b.log, b.hosts.Route(host), key) }
