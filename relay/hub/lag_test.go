package hub

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkLag measures what the histogram of lags costs a worker in a round of so many jobs.
func BenchmarkLag(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var l lag
			a := &audience{subs: make([]subscriber, 1000)}
			jobs := make([]job, n)
			for i := range jobs {
				jobs[i] = job{audience: a, count: 3, classes: everybody, sent: time.Now().Add(-30 * time.Millisecond).UnixMicro()}
			}
			b.ReportAllocs()
			for b.Loop() {
				l.record(jobs)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/job")
		})
	}
}
