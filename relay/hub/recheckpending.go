package hub

import (
	"context"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// recheckAllWithin is the time in which each session is rechecked after a change to another kind of authorizer.
const recheckAllWithin = time.Second

// recheckAllSoon has all sessions rechecked, because another kind of authorizer, which may not know their users, has
// become current. There are two rounds: a session that moves to another part during the first round is in the second.
func (h *Hub) recheckAllSoon() {
	h.pendingRecheck.Store(2 * sweepParts)
	select {
	case h.recheckSoon <- struct{}{}:
	default:
	}
}

// recheckPending does the rechecks that recheckAllSoon has ordered, until ctx ends.
func (h *Hub) recheckPending(ctx context.Context) {
	slots := make(chan struct{}, defaultRecheckConcurrency)
	var checks sync.WaitGroup
	defer checks.Wait()
	for part := 0; ; part = (part + 1) % sweepParts {
		if h.pendingRecheck.Load() == 0 {
			select {
			case <-ctx.Done():
				return
			case <-h.recheckSoon:
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(recheckAllWithin / sweepParts):
		}
		h.pendingRecheck.Add(-1)
		for _, shard := range h.shards {
			for _, s := range shard.part(part, sweepParts) {
				if _, own := s.identity.Credentials.(relay.OwnSession); own {
					continue
				}
				select {
				case slots <- struct{}{}:
				case <-ctx.Done():
					return
				}
				checks.Go(func() {
					defer func() { <-slots }()
					h.applyRecheck(s, h.Authorizer().Recheck(ctx, s.identity))
				})
			}
		}
	}
}
