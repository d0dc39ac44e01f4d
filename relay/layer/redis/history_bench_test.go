package redis_test

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
)

// processorTime returns the CPU time of a Redis in microseconds.
func processorTime(tb testing.TB, server *peers.Redis) (micros float64) {
	for line := range strings.Lines(server.Do("INFO", "cpu").(string)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_sys_main_thread" || name == "used_cpu_user_main_thread" {
			seconds, err := strconv.ParseFloat(value, 64)
			if err != nil {
				tb.Fatal(err)
			}
			micros += seconds * 1e6
		}
	}
	return micros
}

// BenchmarkHistory measures the CPU time of Redis for an event of 300 bytes, from an emitter to all nodes, with a
// history and without. Emission and draining are the same in both.
func BenchmarkHistory(b *testing.B) {
	for _, nodes := range []int{1, 2, 5, 20} {
		for _, kept := range []bool{false, true} {
			b.Run(fmt.Sprintf("nodes=%d/history=%v", nodes, kept), func(b *testing.B) {
				server := peers.StartRedis(b)
				var sinks []*gatedSink
				for range nodes {
					broker, sink := newBroker(b, settings(server)), &gatedSink{}
					if kept {
						if _, err := broker.KeepHistory(everything); err != nil {
							b.Fatal(err)
						}
					}
					run(b, broker, sink, "g")
					sinks = append(sinks, sink)
				}
				p := newBroker(b, settings(server))
				defer func() { _ = p.Close(context.Background()) }()
				text := bytes.Repeat([]byte("x"), 280)
				sent := int64(0)
				emit := func(count int) {
					for _, s := range sinks { // The first event is a batch, and the others are another one.
						s.gate.Lock()
					}
					for range count {
						text := fmt.Appendf(text, "%020d", sent)
						if _, err := p.Publish(context.Background(), "g", text); err != nil {
							b.Fatal(err)
						}
						sent++
					}
					for _, s := range sinks {
						s.gate.Unlock()
					}
					testkit.Eventually(b, "all events", func() bool {
						for _, s := range sinks {
							if s.events.Load() < sent {
								return false
							}
						}
						return true
					})
				}
				emit(200)
				before := processorTime(b, server)
				count := 0
				zadd := zaddTime(b, server)
				for b.Loop() {
					emit(64)
					count += 64
				}
				b.ReportMetric((zaddTime(b, server)-zadd)/float64(count), "zadd-µs/event")
				b.ReportMetric((processorTime(b, server)-before)/float64(count), "redis-µs/event")
			})
		}
	}
}

// gatedSink takes events while its gate is open.
type gatedSink struct {
	countSink
	gate sync.Mutex
}

func (s *gatedSink) Deliver(events []relay.Event) {
	s.gate.Lock()
	defer s.gate.Unlock()
	s.countSink.Deliver(events)
}

// zaddTime returns the time of Redis in ZADD in microseconds.
func zaddTime(tb testing.TB, server *peers.Redis) float64 {
	for line := range strings.Lines(server.Do("INFO", "commandstats").(string)) {
		if rest, ok := strings.CutPrefix(line, "cmdstat_zadd:calls="); ok {
			_, rest, _ = strings.Cut(rest, "usec=")
			usec, _, _ := strings.Cut(rest, ",")
			v, err := strconv.ParseFloat(usec, 64)
			if err != nil {
				tb.Fatal(err)
			}
			return v
		}
	}
	return 0
}
