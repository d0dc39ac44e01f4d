package relay

import "context"

// Interceptor filters and transforms events before the fan-out, once per event and node.
// Its methods may be called concurrently.
type Interceptor interface {
	// Intercept returns what clients are to get of events, which come in the order of their groups. It may change the slice but not
	// the texts, and may keep events back and give them to the Forward method of the hub later.
	Intercept(events []Event) []Event
	// Classify returns the class, 0 to 63, of a subscription that the authorizer has allowed. It returns ErrDenied, perhaps
	// wrapped with a reason for the log, to deny it after all, and any other error when it cannot tell; both keep the client out.
	Classify(ctx context.Context, id Identity, group string) (class uint8, err error)
}
