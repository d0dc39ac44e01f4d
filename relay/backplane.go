package relay

import "context"

// Backplane connects this node to others that have channel layers of their own. Its methods may be called
// concurrently.
type Backplane interface {
	// Interest hears of groups that got their first client on this node or lost their last. Calls come one after
	// another and in order; it must neither block nor call the hub. The function that it returns, if any, waits until the peers
	// send events of the joined groups, as far as they can tell, or ctx ends.
	Interest(joined, left []string) (wait func(ctx context.Context))
	// Published is called with each event that this node itself has published to its layer.
	Published(ctx context.Context, group string, text []byte) error
}
