package ws_test

import (
	"io"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// BenchmarkLoneEvent writes one event of 300 bytes to each of 100 clients that keep up, as on a quiet system.
func BenchmarkLoneEvent(b *testing.B) {
	for _, secure := range []bool{false, true} {
		name := "plain"
		if secure {
			name = "tls"
		}
		b.Run(name, func(b *testing.B) {
			s := newServer(b, secure)
			frame := relay.AppendFrame(nil, make([]byte, 300))
			const clients = 100
			var read atomic.Int64
			var sockets []relay.Socket
			for range clients {
				c, conn := s.dial(b)
				_ = c.SetDeadline(time.Time{})
				sockets = append(sockets, conn)
				go func() {
					buf := make([]byte, len(frame))
					for {
						if _, err := io.ReadFull(c.r, buf); err != nil {
							return
						}
						read.Add(1)
					}
				}()
			}
			b.ReportAllocs()
			b.ResetTimer()
			sent := int64(0)
			for i := 0; i < b.N; i++ {
				sockets[i%clients].Send(frame, 1<<20)
				sent++
				if i%clients == clients-1 {
					for read.Load() < sent {
						runtime.Gosched()
					}
				}
			}
		})
	}
}
