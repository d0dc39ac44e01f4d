package node

import (
	"fmt"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/history/ring"
)

// applyHistory applies a policy. A channel layer that keeps no history itself gets a ring in this process, which
// reloads keep. The caller holds n.mu.
func (n *Node) applyHistory(p relay.HistoryPolicy) error {
	if keeper, ok := n.Hub.Broker().(relay.HistoryKeeper); ok {
		history, err := keeper.KeepHistory(p)
		if err != nil {
			return fmt.Errorf("edgerelay: history: %w", err)
		}
		n.ring = nil
		n.Hub.SetHistory(history)
		return nil
	}
	switch {
	case len(p.Rules) == 0:
		n.ring = nil
		n.Hub.SetHistory(nil)
	case n.ring != nil:
		n.ring.SetPolicy(p)
	default:
		n.ring = ring.New(p, time.Now)
		n.Hub.SetHistory(n.ring)
	}
	return nil
}
