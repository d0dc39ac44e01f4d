package hub_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// BenchmarkEncode frames one event.
func BenchmarkEncode(b *testing.B) {
	for _, size := range []int{300, 2048} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			text := slices.Repeat([]byte("x"), size)
			var buf []byte
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				buf = relay.AppendFrame(buf[:0], text)
			}
		})
	}
}

// audience subscribes clients to groups: of returns the groups of the i-th client.
func audience(b *testing.B, h *hub.Hub, clients int, of func(i int) []string) (sessions []*hub.Session) {
	for i := range clients {
		s := h.Open(discard{}, relay.Identity{ID: "1"}, netip.Addr{})
		subscribe(b, h, s, of(i)...)
		sessions = append(sessions, s)
	}
	return sessions
}

// deliver measures batches of events until every delivery is made.
func deliver(b *testing.B, h *hub.Hub, batch []relay.Event, deliveries int) {
	b.ReportAllocs()
	b.ResetTimer()
	rounds := 0
	events := make([]relay.Event, len(batch))
	for i := 0; i < b.N; i += len(batch) {
		copy(events, batch)
		h.Deliver(events)
		rounds++
	}
	want := uint64(rounds * deliveries)
	for h.Stats().Deliveries < want {
		time.Sleep(time.Microsecond)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(want), "ns/delivery")
}

// BenchmarkGather delivers 64 events for 8 groups in turn to 1,000 clients with several groups each, so that the worker
// gathers jobs across groups, and joins buffers for clients with the same sequence.
func BenchmarkGather(b *testing.B) {
	for name, of := range map[string]func(i int) []string{
		"alike":  func(int) []string { return []string{"g-0", "g-1", "g-2", "g-3", "g-4", "g-5", "g-6", "g-7"} },
		"halves": func(i int) []string { return []string{fmt.Sprint("g-", i%2), fmt.Sprint("g-", 2+i%2)} },
		"mixed":  func(i int) []string { return []string{fmt.Sprint("g-", i%8), fmt.Sprint("g-", (i+1+i/8%7)%8)} },
	} {
		b.Run(name, func(b *testing.B) {
			h, _ := newHub(b)
			deliveries := 0
			audience(b, h, 1000, func(i int) []string { deliveries += 8 * len(of(i)); return of(i) })
			batch := make([]relay.Event, 64)
			for i := range batch {
				batch[i] = relay.Event{Group: fmt.Sprint("g-", i%8), Text: slices.Repeat([]byte("x"), 300)}
			}
			deliver(b, h, batch, deliveries)
		})
	}
}

// BenchmarkManyGroups delivers batches of 64 events for 64 of 10,000 groups with ten clients each.
func BenchmarkManyGroups(b *testing.B) {
	h, _ := newHub(b)
	const groups, each = 10_000, 10
	audience(b, h, groups*each, func(i int) []string { return []string{fmt.Sprint("g-", i%groups)} })
	batch := make([]relay.Event, 64)
	for i := range batch {
		batch[i] = relay.Event{Group: fmt.Sprint("g-", i*151%groups), Text: slices.Repeat([]byte("x"), 300)}
	}
	deliver(b, h, batch, len(batch)*each)
}

// BenchmarkSubscribe moves a client between two groups, with and without other subscribers.
func BenchmarkSubscribe(b *testing.B) {
	for name, own := range map[string]bool{"shared": false, "own": true} {
		b.Run(name, func(b *testing.B) {
			h, _ := newHub(b)
			if !own {
				audience(b, h, 1000, func(int) []string { return []string{"g-0", "g-1"} })
			}
			s := h.Open(discard{}, relay.Identity{ID: "1"}, netip.Addr{})
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				groups := relay.Groups(fmt.Sprint("g-", i&1), "jobs-status_changed")
				if _, err := s.Subscribe(context.Background(), groups); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkConnect opens, subscribes and closes a session.
func BenchmarkConnect(b *testing.B) {
	h, _ := newHub(b)
	limits := relay.DefaultLimits()
	address := netip.MustParseAddr("192.0.2.1")
	h.SetLimits(limits)
	b.ReportAllocs()
	for b.Loop() {
		room, err := h.Admit(address)
		if err != nil {
			b.Fatal(err)
		}
		if err := room.Identify(relay.Identity{ID: "1", Key: "1"}); err != nil {
			b.Fatal(err)
		}
		s := room.Open(discard{})
		if _, err := s.Subscribe(context.Background(), relay.Groups("jobs-status_changed")); err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}

// BenchmarkDeliver measures the relay's own work for an event of 300 bytes: batches of 64 for the same group, and
// sockets without any cost.
func BenchmarkDeliver(b *testing.B) {
	for _, clients := range []int{1, 1000, 10_000} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) {
			h, _ := newHub(b)
			for range clients {
				session := h.Open(discard{}, relay.Identity{ID: "1"}, netip.Addr{})
				subscribe(b, h, session, "g")
			}
			events := make([]relay.Event, 64)
			text, sent := slices.Repeat([]byte("x"), 300), time.Now()
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += len(events) {
				for j := range events {
					events[j] = relay.Event{Group: "g", Text: text, Sent: sent}
				}
				h.Deliver(events)
			}
			want := uint64((b.N + 63) / 64 * 64 * clients)
			for h.Stats().Deliveries < want {
				time.Sleep(time.Microsecond)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(want), "ns/delivery")
		})
	}
}

// memberFormat is a format that copies a part of the event.
type memberFormat struct {
	changeText
	_ byte // so that two formats have two addresses
}

func (*memberFormat) AppendEvent(dst []byte, ev *relay.Event, text []byte) ([]byte, relay.Frame) {
	return append(dst, text...), relay.TextFrame
}

// BenchmarkDeliverFormats is BenchmarkDeliver for 1,000 clients with one or two formats, beside a group whose clients
// have none.
func BenchmarkDeliverFormats(b *testing.B) {
	for _, formats := range []int{0, 1, 2} {
		b.Run(fmt.Sprint(formats), func(b *testing.B) {
			h, _ := newHub(b)
			const clients = 1000
			list := []relay.Format{&memberFormat{}, &memberFormat{}}
			for i := range clients {
				var session *hub.Session
				if formats == 0 {
					session = h.Open(discard{}, relay.Identity{ID: "1"}, netip.Addr{})
				} else {
					session = openDiscard(b, h, list[i%formats])
				}
				subscribe(b, h, session, "g")
			}
			batch := make([]relay.Event, 64)
			for i := range batch {
				batch[i] = relay.Event{Group: "g", Text: slices.Repeat([]byte("x"), 300)}
				if formats > 0 {
					batch[i].Type = "t"
				}
			}
			deliver(b, h, batch, 64*clients)
		})
	}
}

func openDiscard(b *testing.B, h *hub.Hub, format relay.Format) *hub.Session {
	reservation, err := h.Admit(netip.Addr{})
	if err == nil {
		err = reservation.Identify(relay.Identity{ID: "1"})
	}
	if err != nil {
		b.Fatal(err)
	}
	return reservation.OpenAs(discard{}, format)
}
