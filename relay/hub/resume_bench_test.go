package hub_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// BenchmarkResume has 10,000 clients resume at once, which have missed 100 events of 300 bytes: with the same
// positions, and with positions of their own.
func BenchmarkResume(b *testing.B) {
	const clients, missed = 10_000, 100
	for name, own := range map[string]bool{"same": false, "own": true} {
		b.Run(name, func(b *testing.B) {
			h, _, r := historyHub(b)
			keeps := h.Open(discard{}, relay.Identity{ID: "1"}, netip.Addr{})
			subscribe(b, h, keeps, "h-1")
			events := make([]relay.Event, 2*missed)
			for i := range events {
				events[i] = relay.Event{Group: "h-1", Text: fmt.Appendf(nil, "%0300d", i), Sent: time.Now()}
			}
			h.Deliver(events)
			b.ReportAllocs()
			for b.Loop() {
				before := h.ResumeStats().Recovered
				sessions := make([]interface{ Close() }, 0, clients)
				b.StopTimer()
				for i := range clients {
					s := h.Open(discard{}, relay.Identity{ID: "1"}, netip.Addr{})
					s.OptIn()
					after := []relay.Position{events[missed-1].Position}
					if own {
						after = []relay.Position{events[i%missed].Position, events[(i/missed)%missed].Position, after[0]}
					}
					change, err := s.Subscribe(context.Background(), []relay.Subscription{resumeAfter("h-1", after...)})
					if err != nil {
						b.Fatal(err)
					}
					sessions = append(sessions, s)
					b.StartTimer()
					s.SendChange(change, func(relay.Change) []byte { return nil })
					b.StopTimer()
				}
				b.StartTimer()
				for h.ResumeStats().Recovered < before+clients {
					time.Sleep(100 * time.Microsecond)
				}
				b.StopTimer()
				for _, s := range sessions {
					s.Close()
				}
				b.StartTimer()
			}
			_ = r
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*clients*missed), "ns/event")
		})
	}
}
