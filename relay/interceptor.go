package relay

import "context"

// Interceptor filters and transforms events before the fan-out, once per event and node. Methods may be called
// concurrently.
type Interceptor interface {
	// Intercept returns the events for clients, in the order of each group. It may change the slice but not the texts,
	// and may hold events back to pass them to the engine's Forward later.
	Intercept(events []Event) []Event
	// Classify returns the audience class, 0 to [MaxClass], of a subscription that the authorizer has allowed. An error
	// that wraps [ErrDenied], perhaps with a reason for the log, denies it; any other error is a failure, which denies
	// it as well.
	Classify(ctx context.Context, id Identity, group string) (class uint8, err error)
}

// Redaction selects what the subscribers of each audience class receive of an event. A subscription's class is
// [Subscription.Class], 0 unless an [Interceptor] has classified it.
type Redaction struct {
	// Classes has bit c set if subscribers of class c receive the event.
	Classes uint64
	// Render, if not nil, returns the text for a class in place of the event's, and false if the class receives
	// nothing. It is called once for each class that has subscribers on this node.
	Render func(class uint8) (text []byte, ok bool)
}
