package backplane

import (
	"syscall"
	"testing"
	"time"
)

// usedCPU returns the CPU time of this process, which does not depend on other processes.
func usedCPU(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkBatches is the cost of an event in a batch between relays, for both ends together, and its bytes on the
// link.
func BenchmarkBatches(b *testing.B) {
	for name, count := range map[string]int{"1": 1, "27": 27} {
		events, l := jobBatch(count, 5), &link{types: true}
		head, size := timedHead{sent: 1e9}, 0
		for _, e := range events {
			size += e.cost()
		}
		receive := func(batch []byte) { decodeTimed(batch, 0, 1<<20, func(fault) {}) }
		for format, run := range map[string]func() int{
			"numbered": func() int {
				batch := appendNumberedHead(make([]byte, 0, size), 1, count)
				for _, e := range events {
					batch = appendNumbered(batch, e, true)
				}
				decodeNumbered(batch, 0, func(fault) {})
				return len(batch)
			},
			"timed": func() int {
				l.slowness.compresses(time.Now(), 0, 0, size)
				batch := l.plainBatch(head, 1, events, size)
				receive(batch)
				return len(batch)
			},
			"compressed": func() int {
				batch := l.compressBatch(head, 1, events, size)
				receive(batch)
				return len(batch)
			},
		} {
			b.Run(name+" events/"+format, func(b *testing.B) {
				sent, began := 0, usedCPU(b)
				for b.Loop() {
					sent = run()
				}
				b.ReportMetric(float64((usedCPU(b)-began).Nanoseconds())/float64(b.N*count), "cpu-ns/event")
				b.ReportMetric(float64(sent)/float64(count), "bytes/event")
			})
		}
	}
}
