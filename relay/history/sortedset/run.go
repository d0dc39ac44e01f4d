package sortedset

import (
	"context"
	"errors"
	"time"
)

// tickInterval is the time between two ticks.
const tickInterval = time.Second

// Run writes gaps and peers' events, trims and renews the history on a host until ctx ends.
func (s *Store) Run(ctx context.Context, host int) {
	h := s.hosts[host]
	tick := time.NewTicker(tickInterval)
	defer tick.Stop()
	for {
		var err error
		select {
		case <-tick.C:
			err = h.tick(ctx)
		case <-h.wake:
			err = h.write(ctx)
		case <-ctx.Done():
			return
		}
		if ctx.Err() == nil {
			h.note(err)
		}
	}
}

// Tick does the work of a second of Run, on all hosts.
func (s *Store) Tick(ctx context.Context) (err error) {
	for _, h := range s.hosts {
		failed := h.tick(ctx)
		h.note(failed)
		err = errors.Join(err, failed)
	}
	return err
}

// Close implements [relay.History]. The layer ends Run first.
func (s *Store) Close(ctx context.Context) (err error) {
	for _, h := range s.hosts {
		err = errors.Join(err, h.write(ctx))
	}
	return err
}

// write writes pending entries.
func (h *host) write(ctx context.Context) error {
	if err := h.flush(ctx); err != nil {
		return err
	}
	if err := h.writeGaps(ctx); err != nil {
		return err
	}
	return h.renew(ctx)
}

func (h *host) tick(ctx context.Context) error {
	h.ticking.Lock()
	defer h.ticking.Unlock()
	if len(h.store.settings.Load().policy.Rules) == 0 {
		return nil
	}
	if err := h.establish(ctx, false); err != nil {
		return err
	}
	if err := h.write(ctx); err != nil {
		return err
	}
	due := h.due()
	for len(due) > 0 {
		n := min(len(due), pipelineMax)
		if err := h.trim(ctx, due[:n]); err != nil {
			return err
		}
		due = due[n:]
	}
	return nil
}

// renew extends the lifetime of keys, and forgets groups that are no longer used.
func (h *host) renew(ctx context.Context) error {
	now := h.store.now()
	pipe := h.client().Pipeline()
	var renewed []*group
	h.mu.Lock()
	for name, g := range h.groups {
		switch {
		case !g.member && now.Sub(g.used) > g.lifetime():
			delete(h.groups, name)
		case !now.Before(g.expireAt) && (g.member || g.usedSinceRenewal()):
			pipe.PExpire(ctx, h.store.groupKey(name), g.lifetime())
			renewed = append(renewed, g)
		}
	}
	h.mu.Unlock()
	if len(renewed) == 0 {
		return nil
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, g := range renewed {
		g.expireAt = now.Add(g.lifetime() / 4)
	}
	return nil
}

// usedSinceRenewal reports whether the group's key may have no expiry: if Redis had lost the key, the next event
// created it again. The host's lock is held.
func (g *group) usedSinceRenewal() bool {
	return g.expireAt.IsZero() || !g.used.Before(g.expireAt.Add(-g.lifetime()/4))
}
