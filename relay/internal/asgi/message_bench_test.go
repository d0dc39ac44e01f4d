package asgi

import (
	"fmt"
	"slices"
	"testing"

	"github.com/edgerelay/edgerelay/relay"
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
					if m, err := c.Decode(raw, false); err != nil || len(m.Channels) != channels {
						b.Fatal(m, err)
					}
				}
			})
		}
	}
}

// BenchmarkDecodeObject reads messages with types of their own: a chat message of 100 bytes, and the state of an order
// of 2 KiB with numbers, lists and nested objects; and the same messages while they are not wanted.
func BenchmarkDecodeObject(b *testing.B) {
	order := `{"id": 4711, "total": 99.5, "open": true, "note": null, "customer": {"name": "J\u00f6rg", "vip": false}, "lines": [`
	for i := range 20 {
		order += fmt.Sprintf(`%s{"sku": "A-%05d", "count": %d, "price": %d.25, "tags": ["new", "sale"]}`, ", "[:2*min(i, 1)], i, i, i)
	}
	for name, text := range map[string]string{
		"chat":  `{"message": "Hello, how are you doing today?", "user": {"id": 7, "name": "j\u00f6rg"}}`,
		"order": order + "]}",
	} {
		for _, serializer := range []string{"msgpack", "json"} {
			for _, wanted := range []bool{true, false} {
				b.Run(fmt.Sprintf("%s/%s/%v", name, serializer, wanted), func(b *testing.B) {
					c, _ := NewCodec(serializer, nil)
					c.Random = RandomPrefix
					p, err := c.Pack(&relay.Message{Type: name + ".changed", Text: []byte(text)})
					if err != nil {
						b.Fatal(err)
					}
					raw, _ := c.EncodePacked(p, []string{"specific.0123456789abcdef0123456789abcdef!1"})
					b.ReportAllocs()
					b.SetBytes(int64(len(raw)))
					for b.Loop() {
						if m, err := c.Decode(raw, wanted); err != nil || wanted != (m.Object != nil) {
							b.Fatal(m, err)
						}
					}
				})
			}
		}
	}
}
