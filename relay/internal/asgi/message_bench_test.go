package asgi

import (
	"fmt"
	"slices"
	"testing"
)

// BenchmarkDecode reads a message of 300 bytes as channels_redis writes it, for one channel and for a hundred of
// other nodes.
func BenchmarkDecode(b *testing.B) {
	for name, layer := range map[string]struct {
		serializer string
		keys       []string
	}{"msgpack": {"msgpack", nil}, "json": {"json", nil}, "encrypted": {"msgpack", []string{"secret"}}} {
		for _, channels := range []int{1, 100} {
			b.Run(fmt.Sprintf("%s/%d", name, channels), func(b *testing.B) {
				c, err := NewCodec(layer.serializer, layer.keys)
				if err != nil {
					b.Fatal(err)
				}
				c.Random = RandomPrefix
				var names []string
				for i := range channels {
					names = append(names, fmt.Sprintf("specific.0123456789abcdef0123456789abcdef!%d", i))
				}
				raw, err := c.Encode(slices.Repeat([]byte("x"), 300), names)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				for b.Loop() {
					if m, err := c.Decode(raw); err != nil || len(m.Channels) != channels {
						b.Fatal(m, err)
					}
				}
			})
		}
	}
}
