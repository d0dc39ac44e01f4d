package ws_test

import (
	"strings"
	"testing"
	"time"
)

// BenchmarkEcho reads a client's message of 120 bytes and answers it, over a real connection.
func BenchmarkEcho(b *testing.B) {
	for name, secure := range map[string]bool{"plain": false, "tls": true} {
		b.Run(name, func(b *testing.B) {
			c, _ := newServer(b, secure).dial(b)
			_ = c.SetDeadline(time.Time{})
			message := frame(0x81, strings.Repeat("x", 120))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Write(message); err != nil {
					b.Fatal(err)
				}
				if _, _, err := c.next(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
