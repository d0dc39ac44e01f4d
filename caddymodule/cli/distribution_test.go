package cli

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestDistribution(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, scale := range []int64{1, 10, 1 << 20, math.MaxInt64 - 1} {
		var d distribution
		values := make([]int64, 2000)
		for i := range values {
			values[i] = r.Int64N(scale) >> r.IntN(20)
			d.add(values[i])
		}
		slices.Sort(values)
		for _, part := range []float64{0, 0.5, 0.9, 0.99, 0.9999, 1} {
			want := values[min(len(values)-1, int(part*float64(len(values))))]
			if got := d.quantile(part); got < want || float64(got) > float64(want)*1.032+1 {
				t.Errorf("quantile %v of values up to %d: %d, want %d", part, scale, got, want)
			}
		}
		if d.max != values[len(values)-1] {
			t.Errorf("the largest value is %d, want %d", d.max, values[len(values)-1])
		}
	}
	for v := range int64(5000) {
		if b := bucketOf(v); upperBound(b) < v || b > 0 && upperBound(b-1) >= v {
			t.Fatalf("%d is in bucket %d", v, b)
		}
	}
	if b := bucketOf(math.MaxInt64); b >= distributionBuckets || upperBound(b) != math.MaxInt64 {
		t.Errorf("the largest integer is in bucket %d, up to %d", b, upperBound(b))
	}
	if empty := new(distribution); empty.quantile(0.5) != 0 || empty.mean() != 0 {
		t.Error("an empty distribution has values")
	}
}
