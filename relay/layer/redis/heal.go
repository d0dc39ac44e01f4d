package redis

import (
	"context"
	"log/slog"
)

// heal deletes a key of this node, or of all relays, that holds something that a relay never puts there.
func (b *Broker) heal(ctx context.Context, host int, key string) error {
	if err := b.hosts.client(host).Del(ctx, key).Err(); err != nil {
		return err
	}
	b.healed(host, key)
	return nil
}

// healed makes known that heal was needed.
func (b *Broker) healed(host int, key string) { b.health.heal(b.log, b.hosts.route(host), key) }

func (p *PubSub) healed(host int, key string) { p.health.heal(p.log, p.hosts.route(host), key) }

func (h *health) heal(log *slog.Logger, host *route, key string) {
	h.healed.Add(1)
	log.Warn("a key of the relay held another type", "key", key, "host", host.addr(),
		"remedy", "the key was deleted; find out which program writes to it")
}
