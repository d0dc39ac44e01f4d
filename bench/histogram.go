//go:build linux

package main

import (
	"math/bits"
	"time"
)

// histogram counts durations from 1 µs to over an hour in buckets of 1/16 of a power of two, so that quantiles are
// accurate to about 6 %. The zero value is empty. Receivers send it to the harness as JSON.
type histogram struct {
	Buckets [32 * 16]uint32 `json:"b"`
	Count   uint64          `json:"n"`
}

// record adds one duration in microseconds.
func (h *histogram) record(micros int64) {
	h.Buckets[bucketOf(micros)]++
	h.Count++
}

func bucketOf(micros int64) int {
	v := uint64(max(micros, 0))
	if v < 32 {
		return int(v)
	}
	shift := bits.Len64(v) - 5
	return min(shift*16+int(v>>shift), 32*16-1)
}

// bucketMid is the middle of bucket i in microseconds.
func bucketMid(i int) float64 {
	if i < 32 {
		return float64(i)
	}
	shift := i/16 - 1
	return (float64(i-shift*16) + 0.5) * float64(uint64(1)<<shift)
}

// add puts o's counts into h.
func (h *histogram) add(o *histogram) {
	for i, n := range o.Buckets {
		h.Buckets[i] += n
	}
	h.Count += o.Count
}

// quantile returns the duration below which the share q of the samples lies, the longest for 1; 0 without samples.
func (h *histogram) quantile(q float64) time.Duration {
	if h.Count == 0 {
		return 0
	}
	left := min(uint64(q*float64(h.Count)), h.Count-1)
	for i, n := range h.Buckets {
		if left < uint64(n) {
			return time.Duration(bucketMid(i) * float64(time.Microsecond))
		}
		left -= uint64(n)
	}
	return time.Duration(bucketMid(len(h.Buckets)-1) * float64(time.Microsecond))
}
