package redis

import (
	"fmt"
	"slices"
	"testing"
)

// BenchmarkDecode reads a message of 300 bytes as channels_redis writes it, for one channel and for a hundred of other nodes.
func BenchmarkDecode(b *testing.B) {
	for _, serializer := range []string{"msgpack", "json"} {
		for _, channels := range []int{1, 100} {
			b.Run(fmt.Sprintf("%s/%d", serializer, channels), func(b *testing.B) {
				var names []string
				for i := range channels {
					names = append(names, fmt.Sprintf("specific.0123456789abcdef0123456789abcdef!%d", i))
				}
				raw, err := encode(serializer, slices.Repeat([]byte("x"), 300), names)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				for b.Loop() {
					if m, err := decode(serializer, raw); err != nil || len(m.Channels) != channels {
						b.Fatal(m, err)
					}
				}
			})
		}
	}
}
