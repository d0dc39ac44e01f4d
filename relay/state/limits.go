package state

import (
	"time"
	"unicode/utf8"
)

// Limits bound the state of each plugin. A limit of 0 is the default.
type Limits struct {
	// Bytes bounds keys, values and alarms together, each with an overhead of 64 bytes. Default: 64 MiB.
	Bytes int64
	// Keys bounds the number of keys. Default: 100,000.
	Keys int64
	// Alarms bounds the number of alarms. Default: 100,000.
	Alarms int64
	// Value bounds a value. Default: 64 KiB.
	Value int
	// Timeout is how long a request may take before its status is [Unavailable]. Default: 5s.
	Timeout time.Duration
	// Lease is how long an alarm stays with a node that does not renew the lease, because the node has died. Default: 30s.
	Lease time.Duration
}

// MinLease is the least lease: a node starts an alarm within a second of its claim, and renews the lease three times in
// it.
const MinLease = 3 * time.Second

// WithDefaults replaces limits that are 0.
func (l Limits) WithDefaults() Limits {
	if l.Bytes == 0 {
		l.Bytes = 64 << 20
	}
	if l.Keys == 0 {
		l.Keys = 100_000
	}
	if l.Alarms == 0 {
		l.Alarms = 100_000
	}
	if l.Value == 0 {
		l.Value = 64 << 10
	}
	if l.Timeout == 0 {
		l.Timeout = 5 * time.Second
	}
	if l.Lease == 0 {
		l.Lease = 30 * time.Second
	}
	return l
}

const (
	// maxKey bounds keys and names of alarms, in bytes.
	maxKey = 512
	// maxPayload bounds the payload of an alarm.
	maxPayload = 16 << 10
	// maxElements bounds the number of elements of a list, and maxList their bytes with elementOverhead.
	maxElements = 1000
	maxList     = 256 << 10
	// entryOverhead is charged for each key and alarm, elementOverhead for each element of a list, so that short ones are
	// not free.
	entryOverhead   = 64
	elementOverhead = 16
	// maxTTL bounds lifetimes and delays, so that their ends are exact numbers in Lua.
	maxTTL = 10 * 365 * 24 * time.Hour
)

// check returns the status of a request that is refused without a look at the state, OK for any other.
func (l *Limits) check(r *Request) int32 {
	switch {
	case r.Op >= OpCount, r.Plugin == "", r.Key == "", r.TTL < 0:
		return Invalid
	case len(r.Key) > maxKey, len(r.Value) > l.Value, len(r.Expected) > l.Value:
		return TooLarge
	}
	switch r.Op {
	case Push:
		switch {
		case r.Limit < 1, r.Limit > maxElements, !utf8.Valid(r.Value):
			return Invalid
		case len(r.Value)+elementOverhead > maxList:
			return TooLarge
		}
	case List:
		if r.Limit < 1 {
			return Invalid
		}
	case AlarmSet:
		if len(r.Value) > maxPayload {
			return TooLarge
		}
	}
	return OK
}

// millis returns a lifetime or delay in milliseconds, rounded up, so that a short TTL is not "forever".
func millis(d time.Duration) int64 {
	return int64((min(max(d, 0), maxTTL) + time.Millisecond - 1) / time.Millisecond)
}
