package hub

import (
	"context"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// strangersWait is how long it takes until everybody is checked once after another kind of authorizer was put in force.
const strangersWait = time.Second

// recheckStrangers asks about all sessions once or twice after another kind of authorizer was put in force: whoever the
// one before let in may be unknown to it.
func (h *Hub) recheckStrangers(ctx context.Context) {
	slots := make(chan struct{}, rechecksAtOnce)
	var asking sync.WaitGroup
	defer asking.Wait()
	for part := 0; ; part = (part + 1) % sweepParts {
		if h.strangers.Load() == 0 {
			select {
			case <-ctx.Done():
				return
			case <-h.strangersCame:
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(strangersWait / sweepParts):
		}
		h.strangers.Add(-1)
		for _, shard := range h.shards {
			for _, s := range shard.part(part, sweepParts) {
				if _, ok := s.identity.Credentials.(relay.OwnSession); ok {
					continue
				}
				select {
				case slots <- struct{}{}:
				case <-ctx.Done():
					return
				}
				asking.Go(func() {
					defer func() { <-slots }()
					h.conclude(s, h.Authorizer().Recheck(ctx, s.identity))
				})
			}
		}
	}
}
