package hub

import (
	"sync/atomic"
	"time"
)

// LagBounds are the upper bounds of the buckets of [Lag]. A last bucket has no bound.
var LagBounds = [...]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond,
	25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond,
	500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second,
	10 * time.Second, 30 * time.Second, time.Minute,
}

// Lag is a histogram of the time from an event's publication (see [relay.Event.Published]) until the write to the last
// socket of a shard. Each delivery counts once. Events that were encoded together count with the time of the first.
type Lag struct {
	// Counts are the deliveries by bucket of LagBounds, not cumulative.
	Counts [len(LagBounds) + 1]uint64
	// Sum is the total of all deliveries.
	Sum time.Duration
	// Skewed is the part of Counts[0] that was delivered before publication: the emitter's clock is ahead of this
	// node's.
	Skewed uint64
}

// lag is the counters behind Lag. Workers count once per job, never per socket.
type lag struct {
	counts [len(LagBounds) + 1]atomic.Uint64
	sum    atomic.Int64 // microseconds
	skewed atomic.Uint64
}

// stamp returns a time in the form that jobs carry: Unix microseconds, 0 if unknown.
func stamp(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// lagMicros is LagBounds in microseconds.
var lagMicros = func() (micros [len(LagBounds)]int64) {
	for i, bound := range LagBounds {
		micros[i] = bound.Microseconds()
	}
	return micros
}()

// record counts the jobs of a written round. The shard's round is held.
// See docs/decisions/hub.md#why-does-the-delivery-lag-count-deliveries
func (l *lag) record(jobs []job) {
	now := time.Now()
	micros := now.UnixMicro()
	bucket, n, sum := 0, uint64(0), int64(0) // of consecutive jobs in the same bucket: saves atomic additions
	for i := range jobs {
		j := &jobs[i]
		if j.sent == 0 && j.journey == nil {
			continue
		}
		clients := j.audience.reach(j)
		if j.journey != nil {
			j.journey.recordWrite(now, clients)
		}
		if j.sent == 0 {
			continue
		}
		took, count := micros-j.sent, uint64(clients*j.count)
		if took < 0 {
			l.skewed.Add(count)
			took = 0
		}
		if b := bucketOf(took); b != bucket {
			l.add(bucket, n, sum)
			bucket, n, sum = b, 0, 0
		}
		n += count
		sum += took * int64(count)
	}
	l.add(bucket, n, sum)
}

// bucketOf returns the bucket of a time in microseconds.
func bucketOf(micros int64) int {
	for i := range lagMicros {
		if micros <= lagMicros[i] {
			return i
		}
	}
	return len(lagMicros)
}

func (l *lag) add(bucket int, n uint64, sum int64) {
	if n > 0 {
		l.counts[bucket].Add(n)
		l.sum.Add(sum)
	}
}

func (l *lag) snapshot() (s Lag) {
	for i := range s.Counts {
		s.Counts[i] = l.counts[i].Load()
	}
	s.Sum, s.Skewed = time.Duration(l.sum.Load())*time.Microsecond, l.skewed.Load()
	return s
}
