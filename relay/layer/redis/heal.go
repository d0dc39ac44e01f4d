package redis

import (
	"context"
)

// heal deletes a key of this node, or of all relays, that holds something that a relay never puts there.
func (b *Broker) heal(ctx context.Context, host int, key string) error {
	if err := b.hosts.Client(host).Del(ctx, key).Err(); err != nil {
		return err
	}
	b.healed(host, key)
	return nil
}

// healed makes known that heal was needed.
func (b *Broker) healed(host int, key string) { b.health.Heal(b.log, b.hosts.Route(host), key) }
