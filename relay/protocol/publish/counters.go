package publish

import (
	"sync/atomic"
	"time"
)

// Reason is the reason for which a request was rejected. Clients see it as the member "reason".
type Reason uint8

// The reasons.
const (
	// ReasonUnauthorized: no key, or an unknown one.
	ReasonUnauthorized Reason = iota
	// ReasonMethod: another method than POST.
	ReasonMethod
	// ReasonMediaType: the body is not announced as JSON, or is compressed.
	ReasonMediaType
	// ReasonTooLarge: the body or the number of publications is above a limit.
	ReasonTooLarge
	// ReasonSlow: the body did not arrive in time.
	ReasonSlow
	// ReasonInvalid: the body is malformed.
	ReasonInvalid
	// ReasonGroup: the key may not publish to a group.
	ReasonGroup
	// ReasonType: the key may not publish messages of a type.
	ReasonType
	// ReasonRate: the key's rate is used up.
	ReasonRate
	// ReasonBusy: too many requests at the same time.
	ReasonBusy
	// ReasonMismatch: the idempotency key was used for another message.
	ReasonMismatch
	// ReasonInProgress: another request with the same idempotency key has not ended.
	ReasonInProgress
	// ReasonLayer: the channel layer did not take a message.
	ReasonLayer
	// ReasonUnsupported: the channel layer cannot publish messages of this form.
	ReasonUnsupported
	// ReasonCount is the number of reasons.
	ReasonCount
)

var reasons = [ReasonCount]string{
	"unauthorized", "method", "media_type", "too_large", "slow_body", "invalid", "group", "type", "rate", "busy",
	"id_reused", "in_progress", "channel_layer", "unsupported",
}

// String returns the reason in responses, logs and metrics.
func (r Reason) String() string { return reasons[r] }

// Counters count what became of a key's requests. The zero Counters are ready to use, by several goroutines.
type Counters struct {
	// Sent, Deduplicated and Failed count publications, by message and group: sent to the channel layer, already sent
	// under the same idempotency key, and failed.
	Sent, Deduplicated, Failed atomic.Uint64
	// Rejected counts requests that published nothing, by reason.
	Rejected [ReasonCount]atomic.Uint64
	// Cleartext counts authenticated requests that came over the network without TLS.
	Cleartext atomic.Uint64
	// used is the time of the last authenticated request, in Unix seconds; 0 without one.
	used atomic.Int64
}

// Used returns the time of the last authenticated request; zero without one.
func (c *Counters) Used() time.Time {
	if at := c.used.Load(); at != 0 {
		return time.Unix(at, 0)
	}
	return time.Time{}
}
