package authority

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// LookupStats counts one kind of lookup since the authorizer was created.
type LookupStats struct {
	// Cached lookups were answered from memory, Shared ones by a request already in flight, and Requested ones by a
	// request of their own.
	Cached, Shared, Requested uint64
	// Yes, No and Failed count the outcomes of requests. Duration is their total time, queueing included.
	Yes, No, Failed uint64
	Duration        time.Duration
	// Abandoned requests lost every waiting client before the response came. Busy requests were rejected because the
	// queue was full.
	Abandoned, Busy uint64
}

// Plus returns the sums of two statistics.
func (s LookupStats) Plus(o LookupStats) LookupStats {
	return LookupStats{
		Cached: s.Cached + o.Cached, Shared: s.Shared + o.Shared, Requested: s.Requested + o.Requested,
		Yes: s.Yes + o.Yes, No: s.No + o.No, Failed: s.Failed + o.Failed, Duration: s.Duration + o.Duration,
		Abandoned: s.Abandoned + o.Abandoned, Busy: s.Busy + o.Busy,
	}
}

// lookupCounters are the counters behind LookupStats.
type lookupCounters struct {
	cached, shared, requested atomic.Uint64
	yes, no, failed           atomic.Uint64
	abandoned, busy           atomic.Uint64
	nanos                     atomic.Int64
}

// countOutcome counts how a request ended.
func (c *lookupCounters) countOutcome(yes bool, err error, took time.Duration) {
	if errors.Is(err, relay.ErrBusy) {
		c.busy.Add(1)
		return
	}
	c.nanos.Add(int64(took))
	switch {
	case err == nil && yes:
		c.yes.Add(1)
	case err == nil, errors.Is(err, relay.ErrUnauthenticated):
		c.no.Add(1)
	default:
		c.failed.Add(1)
	}
}

// Snapshot returns the counters.
func (c *lookupCounters) Snapshot() LookupStats {
	return LookupStats{
		Cached: c.cached.Load(), Shared: c.shared.Load(), Requested: c.requested.Load(),
		Yes: c.yes.Load(), No: c.no.Load(), Failed: c.failed.Load(),
		Abandoned: c.abandoned.Load(), Busy: c.busy.Load(), Duration: time.Duration(c.nanos.Load()),
	}
}
