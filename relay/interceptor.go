package relay

import "context"

// Interceptor filters and transforms events before the fan-out, once per event and node. Methods may be called
// concurrently.
type Interceptor interface {
	// Intercept returns the events for clients, in the order of each group. Intercept may change the slice but not the
	// texts, and may hold events back for the engine's Forward later.
	Intercept(events []Event) []Event
	// Classify returns the audience class of a subscription that the authorizer has allowed. An error that wraps
	// [ErrDenied], perhaps with a reason for the log, denies the subscription; any other error is a failure, and denies
	// as well.
	Classify(ctx context.Context, id Identity, group string) (Classification, error)
}

// Classification is an [Interceptor]'s decision about the class of a subscription.
type Classification struct {
	// Class is the audience class, 0 to [MaxClass].
	Class uint8
	// Generation identifies the rules by which the interceptor has chosen the class. An interceptor whose rules never
	// change leaves it 0; see [Reclassifier].
	Generation uint64
}

// Redaction selects the text of an event for each audience class. A subscription's class is [Subscription.Class], 0
// unless an [Interceptor] has classified the subscription.
type Redaction struct {
	// Classes has bit c set if subscribers of class c receive the event.
	Classes uint64
	// Generation is the generation of the classes. Subscribers whose class is of another generation receive nothing:
	// their class may have been another audience's.
	Generation uint64
	// Render, if not nil, returns the text for a class in place of the event's, and false if the class receives
	// nothing. The engine calls Render once for each class with subscribers on this node.
	Render func(class uint8) (text []byte, ok bool)
	// Failed, if not nil, reports whether Render has returned false for a class because the text could not be made, and
	// not because the class receives nothing. Events of a replay have Failed, since no other part learns of their
	// failures; those of live events are losses.
	Failed func(class uint8) bool
}
