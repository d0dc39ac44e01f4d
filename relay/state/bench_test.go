package state

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
)

// BenchmarkRequests compares the store with a client that pipelines plain SETs, 256 in a round trip, and one that runs
// a SET at a time from each of 512 goroutines over a pool.
func BenchmarkRequests(b *testing.B) {
	r := peers.StartRedis(b)
	value := make([]byte, 100)
	b.Run("store", func(b *testing.B) {
		s := openRedis(b, r.URL, Limits{})
		inParallel(b, func(key string) {
			done := make(chan struct{})
			s.Start(&Request{Plugin: "game", Op: Set, Key: key, Value: value}, func(res Response) {
				if res.Status != OK {
					b.Errorf("status %d", res.Status)
				}
				close(done)
			})
			<-done
		})
	})
	b.Run("pipelined SET", func(b *testing.B) {
		c := r.Client()
		defer c.Close()
		for n := 0; n < b.N; n += maxBatch {
			pipe := c.Pipeline()
			for i := range maxBatch {
				pipe.Set(context.Background(), "k"+strconv.Itoa(i), value, 0)
			}
			if _, err := pipe.Exec(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("single SET", func(b *testing.B) {
		c := r.Client()
		defer c.Close()
		inParallel(b, func(key string) {
			if err := c.Set(context.Background(), key, value, 0).Err(); err != nil {
				b.Error(err)
			}
		})
	})
	b.Run("store, one at a time", func(b *testing.B) {
		s := openRedis(b, r.URL, Limits{})
		for b.Loop() {
			call(b, s, &Request{Op: Set, Key: "a", Value: value})
		}
	})
	b.Run("SET, one at a time", func(b *testing.B) {
		c := r.Client()
		defer c.Close()
		for b.Loop() {
			c.Set(context.Background(), "a", value, 0)
		}
	})
}

// inParallel makes b.N requests from 512 goroutines, and reports the median and the 99th percentile of their times.
func inParallel(b *testing.B, request func(key string)) {
	const goroutines = 512
	times := make([][]time.Duration, goroutines)
	var all sync.WaitGroup
	b.ResetTimer()
	for g := range goroutines {
		all.Go(func() {
			for i := g; i < b.N; i += goroutines {
				began := time.Now()
				request("k" + strconv.Itoa(g))
				times[g] = append(times[g], time.Since(began))
			}
		})
	}
	all.Wait()
	b.StopTimer()
	list := slices.Concat(times...)
	slices.Sort(list)
	b.ReportMetric(float64(list[len(list)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(list[len(list)*99/100].Microseconds()), "p99-µs")
}
