package relay

import "context"

// Backplane connects this node to nodes with channel layers of their own. Methods may be called concurrently.
type Backplane interface {
	// Interest is called when groups get their first client on this node or lose their last. Calls are serialized and
	// in order; the method must neither block nor call the engine. The returned function, if any, waits until peers
	// send events of the joined groups, as far as peers confirm that, or until ctx ends.
	Interest(joined, left []string) (wait func(ctx context.Context))
	// Published is called with each message without a type that this node has published to its channel layer.
	Published(ctx context.Context, m Message) error
}

// Node is the engine as a [Backplane] uses it.
type Node interface {
	// Sink takes the events of peers.
	Sink
	// LossSink takes the losses that the backplane knows of.
	LossSink
	// Broker returns the current channel layer, nil if there is none.
	Broker() Broker
	// Backplane returns the current backplane, nil if there is none. SetBackplane replaces the backplane, or removes it
	// with nil. The new backplane is told all groups with clients before SetBackplane returns.
	Backplane() Backplane
	SetBackplane(b Backplane)
	// Listen calls fn with every event of a group, in order and on the delivering goroutine, so fn must be quick. The
	// group stays joined until stop is called. If ctx ends before the layer has taken the membership, Listen returns
	// and the layer keeps trying.
	Listen(ctx context.Context, group string, fn func(Event)) (stop func())
}
