package authority

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/fairqueue"
)

// Classes of requests to an authority. Each has a share of the concurrent requests, so no class delays another. Within
// a class, addresses or users take turns.
const (
	// ClassKnownLogin are handshakes of logins that the authority has confirmed before, by user.
	ClassKnownLogin = iota
	// ClassStranger are all other handshakes, by address.
	ClassStranger
	// ClassSubscription are lookups of groups for new subscriptions, by user.
	ClassSubscription
	// ClassRecheck are rechecks of open logins and subscriptions, by user.
	ClassRecheck
)

// classNames are the label values of the classes in metrics.
var classNames = [...]string{"known_login", "stranger", "subscription", "recheck"}

// classes bound the queues. A handshake that does not fit is rejected at once. Subscriptions are also bounded by the
// number of groups in one message, and rechecks by the hub.
// See docs/decisions/protocol-and-authz.md#why-are-lookups-queued-by-class-address-and-user
var classes = []fairqueue.Class{
	ClassKnownLogin: {Weight: 3, MaxPerKey: 256, MaxQueued: 4096, Timeout: 10 * time.Second},
	// Sized for an office that reconnects from one address after a restart while AWX handles 50 requests a second. The
	// pages of AWX up to 24.6.1 do not retry after a rejection.
	ClassStranger:     {Weight: 1, MaxPerKey: 1024, MaxQueued: 4096, Timeout: 30 * time.Second},
	ClassSubscription: {Weight: 2, MaxPerKey: 1024, MaxQueued: 8192, Timeout: 15 * time.Second},
	ClassRecheck:      {Weight: 2, MaxPerKey: 1024, MaxQueued: 8192, Timeout: 30 * time.Second},
}

// Requester is the user or address that a request is sent for. Requesters of one class take turns.
type Requester struct {
	class int
	key   string
}

// UserRequester returns the requester of an authenticated user.
func UserRequester(class int, user string) Requester { return Requester{class, "user " + user} }

// strangerIPv6Prefix is the number of bits of an IPv6 address that strangers share a turn by. A host can use any
// address of its /64 network.
const strangerIPv6Prefix = 64

// StrangerRequester returns the requester of a handshake from an address, before authentication.
func StrangerRequester(address netip.Addr) Requester {
	return Requester{ClassStranger, relay.AddressKey(address, strangerIPv6Prefix).String()}
}

// Queue shares a bounded number of concurrent requests to an authority fairly. Methods may be called concurrently.
type Queue struct {
	name  string
	queue *fairqueue.Queue
}

// NewQueue returns a queue for a number of concurrent requests. name is the authority's, for errors.
func NewQueue(name string, concurrency int) *Queue {
	return &Queue{name, fairqueue.New(max(concurrency, 1), classes...)}
}

// Concurrency returns the maximum number of requests in flight.
func (q *Queue) Concurrency() int { return q.queue.Slots() }

// Acquire waits until the requester may send a request. The caller must call release after the response.
func (q *Queue) Acquire(ctx context.Context, r Requester) (release func(), err error) {
	switch err := q.queue.Acquire(ctx, r.class, r.key); {
	case errors.Is(err, fairqueue.ErrFull):
		return nil, fmt.Errorf("%s: %w", q.name, relay.ErrBusy)
	case err != nil:
		return nil, err
	}
	return func() { q.queue.Release(r.class) }, nil
}

// Queued returns the number of queued requests by class. The keys are metric label values.
func (q *Queue) Queued() map[string]int {
	queued := map[string]int{}
	for class, n := range q.queue.Queued() {
		queued[classNames[class]] = n
	}
	return queued
}
