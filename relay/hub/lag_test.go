package hub

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkLag measures the cost of the lag histogram for a worker, per round of jobs.
func BenchmarkLag(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var l lag
			a := &audience{subs: make([]subscriber, 1000)}
			jobs := make([]job, n)
			for i := range jobs {
				sent := time.Now().Add(-30 * time.Millisecond)
				jobs[i] = job{audience: a, count: 3, classes: allClasses, sent: sent.UnixMicro()}
			}
			b.ReportAllocs()
			for b.Loop() {
				l.record(jobs)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/job")
		})
	}
}
