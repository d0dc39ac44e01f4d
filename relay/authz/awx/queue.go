package awx

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/fairqueue"
)

// Classes of requests to AWX's API. Each has a share of the concurrent requests, so no class delays another. Within a
// class, addresses or users take turns.
const (
	// classKnownLogin are handshakes of logins that AWX has confirmed before, by user.
	classKnownLogin = iota
	// classStranger are all other handshakes, by address.
	classStranger
	// classSubscription are object lookups for new subscriptions, by user.
	classSubscription
	// classRecheck are rechecks of open logins and subscriptions, by user.
	classRecheck
)

// classNames are the label values of the classes in metrics.
var classNames = [...]string{"known_login", "stranger", "subscription", "recheck"}

// classes bound the queues. A handshake that does not fit is rejected at once. Subscriptions are also bounded by the
// number of groups in one message, and rechecks by the hub.
// See docs/decisions/protocol-and-authz.md#why-are-lookups-queued-by-class-address-and-user
var classes = []fairqueue.Class{
	classKnownLogin: {Weight: 3, MaxPerKey: 256, MaxQueued: 4096, Timeout: 10 * time.Second},
	// Sized for an office that reconnects from one address after a restart while AWX handles 50 requests a second. The
	// pages of AWX up to 24.6.1 do not retry after a rejection.
	classStranger:     {Weight: 1, MaxPerKey: 1024, MaxQueued: 4096, Timeout: 30 * time.Second},
	classSubscription: {Weight: 2, MaxPerKey: 1024, MaxQueued: 8192, Timeout: 15 * time.Second},
	classRecheck:      {Weight: 2, MaxPerKey: 1024, MaxQueued: 8192, Timeout: 30 * time.Second},
}

// requester is the user or address that a request is sent for. Requesters of one class take turns.
type requester struct {
	class int
	key   string
}

// userRequester returns the requester of an authenticated user.
func userRequester(class int, user string) requester { return requester{class, "user " + user} }

// strangerIPv6Prefix is the number of bits of an IPv6 address that strangers share a turn by. A host can use any
// address of its /64 network.
const strangerIPv6Prefix = 64

// strangerRequester returns the requester of a handshake from an address, before authentication.
func strangerRequester(address netip.Addr) requester {
	return requester{classStranger, relay.AddressKey(address, strangerIPv6Prefix).String()}
}

// acquireSlot waits until the requester may send a request. The caller must call release after the response.
func (a *api) acquireSlot(ctx context.Context, r requester) (release func(), err error) {
	switch err := a.queue.Acquire(ctx, r.class, r.key); {
	case errors.Is(err, fairqueue.ErrFull):
		return nil, fmt.Errorf("AWX API: %w", relay.ErrBusy)
	case err != nil:
		return nil, err
	}
	return func() { a.queue.Release(r.class) }, nil
}
