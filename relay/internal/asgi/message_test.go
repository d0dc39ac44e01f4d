package asgi

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
)

// testCodec is that of the core layer: a serializer, and " encrypted".
func testCodec(t testing.TB, kind string) Codec {
	serializer, encrypted := strings.CutSuffix(kind, " encrypted")
	var keys []string
	if encrypted {
		keys = []string{"new", "old"}
	}
	c, err := NewCodec(serializer, keys)
	if err != nil {
		t.Fatal(err)
	}
	c.Random, c.TTL = RandomPrefix, 70*time.Second
	return c
}

func TestMessageRoundTrip(t *testing.T) {
	for _, serializer := range []string{"msgpack", "json", "msgpack encrypted", "json encrypted"} {
		text := []byte("{\"x\":  \"\\u001b[0m é\"}")
		c := testCodec(t, serializer)
		raw, err := c.Encode(text, []string{"specific.a!1", "specific.a!2"})
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(raw, []byte(internalMessage)) != (len(c.keys) == 0) {
			t.Errorf("%s: %q", serializer, raw)
		}
		m, err := c.Decode(raw, false)
		if err != nil {
			t.Fatal(err)
		}
		channels := []string{"specific.a!1", "specific.a!2"}
		if m.Type != internalMessage || !bytes.Equal(m.Text, text) || !m.NeedsRelay || !slices.Equal(m.Channels, channels) {
			t.Errorf("%s: got %+v", serializer, m)
		}
	}
}

// TestMessageOfPython decodes bytes that Python's msgpack and json made.
func TestMessageOfPython(t *testing.T) {
	prefix := strings.Repeat("r", RandomPrefix)
	for _, c := range []struct{ serializer, raw, text, channel string }{
		{"msgpack", "\x84\xa4type\xb0internal.message\xa4text\xa7{\"a\":1}\xabneeds_relay\xc3\xb0__asgi_channel__\x91\xa4s.a!", `{"a":1}`, "s.a!"},
		{"msgpack", "\x83\xa4type\xb0internal.message\xa4text\xc4\x02{}\xb0__asgi_channel__\xa4s.a!", `{}`, "s.a!"},
		{"json", `{"type": "internal.message", "text": "{\"a\": \"\u00e9\"}", "__asgi_channel__": ["s.a!"]}`, `{"a": "é"}`, "s.a!"},
		{"json", `{"type": "internal.message", "text": "1", "__asgi_channel__": "s.a!"}`, `1`, "s.a!"},
	} {
		codec := testCodec(t, c.serializer)
		m, err := codec.Decode([]byte(prefix+c.raw), false)
		if err != nil {
			t.Errorf("%q: %v", c.raw, err)
			continue
		}
		if string(m.Text) != c.text || !slices.Equal(m.Channels, []string{c.channel}) {
			t.Errorf("%q: got %+v", c.raw, m)
		}
	}
}

func FuzzMessage(f *testing.F) {
	var codecs []Codec
	for i, kind := range []string{"msgpack", "json", "msgpack encrypted"} {
		codecs = append(codecs, testCodec(f, kind))
		raw, _ := codecs[i].Encode([]byte(`{"a":1}`), []string{"specific.a!1"})
		f.Add(raw, i)
	}
	f.Add([]byte("123456789012\xdf\xff\xff\xff\xff"), 0)
	f.Add([]byte("123456789012\x81\xa6groups\xdd\xff\xff\xff\xff"), 0)
	f.Fuzz(func(t *testing.T, raw []byte, kind int) {
		c := codecs[uint(kind)%uint(len(codecs))]
		m, err := c.Decode(raw, false)
		if err == nil && len(m.Text) > 2*len(raw)+8 {
			t.Errorf("%d bytes of text from %d", len(m.Text), len(raw))
		}
	})
}
