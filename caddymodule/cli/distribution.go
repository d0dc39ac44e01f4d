package cli

import "math/bits"

// distribution counts values in buckets, so that quantiles of any number of values take constant memory. A bucket is
// 1/32 of a power of two wide: a quantile is at most 3.2 % too high.
type distribution struct {
	buckets [distributionBuckets]uint64
	count   uint64
	sum     int64
	max     int64
}

const (
	distributionSteps   = 32 // buckets per power of two
	distributionBuckets = distributionSteps * (64 - 5 + 1)
)

// add counts a value; negative values count as 0.
func (d *distribution) add(v int64) {
	v = max(0, v)
	d.buckets[bucketOf(v)]++
	d.count++
	d.sum += v
	d.max = max(d.max, v)
}

// bucketOf returns the bucket of a value. Values below 64 have buckets of their own.
func bucketOf(v int64) int {
	shift := max(0, bits.Len64(uint64(v))-6)
	return shift*distributionSteps + int(v>>shift)
}

// quantile returns an upper bound of the value that the given part of all values does not exceed.
func (d *distribution) quantile(part float64) int64 {
	rank := uint64(part * float64(d.count))
	var seen uint64
	for i, n := range d.buckets {
		if seen += n; n > 0 && seen > rank {
			return min(upperBound(i), d.max)
		}
	}
	return d.max
}

// upperBound returns the largest value of a bucket.
func upperBound(bucket int) int64 {
	if bucket < 2*distributionSteps {
		return int64(bucket)
	}
	shift := bucket/distributionSteps - 1
	return int64(bucket-shift*distributionSteps+1)<<shift - 1
}

func (d *distribution) mean() int64 { return d.sum / int64(max(1, d.count)) }
