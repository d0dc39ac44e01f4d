package hub

import "testing"

// BenchmarkQueue passes jobs from producers to a single consumer, which takes all queued jobs at once.
func BenchmarkQueue(b *testing.B) {
	var q queue
	q.init()
	done := make(chan int)
	go func() {
		taken, spare := 0, []job(nil)
		for {
			jobs := q.take(spare)
			if jobs == nil {
				done <- taken
				return
			}
			taken += len(jobs)
			spare = jobs
		}
	}()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		one := make([]job, 1)
		for pb.Next() {
			q.push(one, 300)
		}
	})
	q.close()
	<-done
}
