package cluster_test

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/relay"
)

var usec = regexp.MustCompile(`cmdstat_(?:spublish|evalsha|eval):calls=\d+,usec=(\d+)`)

// redisTime returns the time that Redis has spent on publications, in microseconds.
func redisTime(r *peers.Redis) (n float64) {
	for _, m := range usec.FindAllStringSubmatch(r.Do("INFO", "commandstats").(string), -1) {
		t, _ := strconv.ParseFloat(m[1], 64)
		n += t
	}
	return n
}

func BenchmarkPublish(b *testing.B) {
	c := peers.StartRedisCluster(b, 1, 0)
	for _, with := range []struct{ name, group string }{{"plain", "other"}, {"history", "job_1"}} {
		for _, size := range []int{300, 2048} {
			b.Run(with.name+"/"+strconv.Itoa(size), func(b *testing.B) {
				n := startHistory(b, settings(c.Addresses()...), relay.DefaultHistoryLimits)
				text := []byte(strings.Repeat("x", size))
				c.Masters[0].Do("CONFIG", "RESETSTAT")
				for b.Loop() {
					if _, err := n.Publish(context.Background(), with.group, text); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(redisTime(c.Masters[0])/float64(b.N), "redis-µs/event")
				if with.group == "job_1" {
					info, err := n.History.(relay.HistoryInspector).InspectHistory(context.Background(), with.group)
					if err != nil {
						b.Fatal(err)
					}
					b.ReportMetric(float64(info.Bytes)/float64(info.Events), "redis-B/event")
				}
			})
		}
	}
}

func BenchmarkRead(b *testing.B) {
	c := peers.StartRedisCluster(b, 1, 0)
	n := startHistory(b, settings(c.Addresses()...), relay.DefaultHistoryLimits)
	head := n.Read(b.Context(), []relay.HistoryQuery{{Group: "job_1"}})[0].Head
	empty := c.Masters[0].Do("MEMORY", "USAGE", "edgerelay:history:{edgerelay:job_1}:meta").(int64)
	for range 100 {
		if _, err := n.Publish(b.Context(), "job_1", []byte(strings.Repeat("x", 300))); err != nil {
			b.Fatal(err)
		}
	}
	c.Masters[0].Do("CONFIG", "RESETSTAT")
	for b.Loop() {
		p := n.Read(b.Context(), []relay.HistoryQuery{{Group: "job_1", After: []relay.Position{head}}})[0]
		if len(p.Events) != 100 || p.Resumable[0] != nil {
			b.Fatalf("%d events, %v", len(p.Events), p.Resumable)
		}
	}
	b.ReportMetric(redisTime(c.Masters[0])/float64(b.N), "redis-µs/read")
	b.ReportMetric(float64(empty), "redis-B/group")
}
