package redis

import (
	"bufio"
	"bytes"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// testCodec is that of the core layer: a serializer, and " encrypted".
func testCodec(t testing.TB, kind string) codec {
	serializer, encrypted := strings.CutSuffix(kind, " encrypted")
	s := DefaultSettings()
	s.Serializer = serializer
	if encrypted {
		s.EncryptionKeys = []string{"new", "old"}
	}
	f, err := s.prepare()
	if err != nil {
		t.Fatal(err)
	}
	return f.codec
}

func TestMessageRoundTrip(t *testing.T) {
	for _, serializer := range []string{"msgpack", "json", "msgpack encrypted", "json encrypted"} {
		text := []byte("{\"x\":  \"\\u001b[0m é\"}")
		c := testCodec(t, serializer)
		raw, err := c.encode(text, []string{"specific.a!1", "specific.a!2"})
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(raw, []byte(internalMessage)) != (len(c.keys) == 0) {
			t.Errorf("%s: %q", serializer, raw)
		}
		m, err := c.decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		if m.Type != internalMessage || !bytes.Equal(m.Text, text) || !m.NeedsRelay || !slices.Equal(m.Channels, []string{"specific.a!1", "specific.a!2"}) {
			t.Errorf("%s: got %+v", serializer, m)
		}
	}
}

// TestMessageOfPython decodes bytes that Python's msgpack and json made.
func TestMessageOfPython(t *testing.T) {
	prefix := strings.Repeat("r", randomPrefix)
	for _, c := range []struct{ serializer, raw, text, channel string }{
		{"msgpack", "\x84\xa4type\xb0internal.message\xa4text\xa7{\"a\":1}\xabneeds_relay\xc3\xb0__asgi_channel__\x91\xa4s.a!", `{"a":1}`, "s.a!"},
		{"msgpack", "\x83\xa4type\xb0internal.message\xa4text\xc4\x02{}\xb0__asgi_channel__\xa4s.a!", `{}`, "s.a!"},
		{"json", `{"type": "internal.message", "text": "{\"a\": \"\u00e9\"}", "__asgi_channel__": ["s.a!"]}`, `{"a": "é"}`, "s.a!"},
		{"json", `{"type": "internal.message", "text": "1", "__asgi_channel__": "s.a!"}`, `1`, "s.a!"},
	} {
		codec := testCodec(t, c.serializer)
		m, err := codec.decode([]byte(prefix + c.raw))
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
	var codecs []codec
	for i, kind := range []string{"msgpack", "json", "msgpack encrypted"} {
		codecs = append(codecs, testCodec(f, kind))
		raw, _ := codecs[i].encode([]byte(`{"a":1}`), []string{"specific.a!1"})
		f.Add(raw, i)
	}
	f.Add([]byte("123456789012\xdf\xff\xff\xff\xff"), 0)
	f.Add([]byte("123456789012\x81\xa6groups\xdd\xff\xff\xff\xff"), 0)
	f.Fuzz(func(t *testing.T, raw []byte, kind int) {
		c := codecs[uint(kind)%uint(len(codecs))]
		m, err := c.decode(raw)
		if err == nil && len(m.Text) > 2*len(raw)+8 {
			t.Errorf("%d bytes of text from %d", len(m.Text), len(raw))
		}
	})
}

// FuzzChannelName cuts names of channels that strangers put into messages and groups.
func FuzzChannelName(f *testing.F) {
	f.Add("specific.0123456789abcdef0123456789abcdef!1a")
	f.Add("!")
	f.Add("")
	f.Fuzz(func(t *testing.T, name string) {
		r := receiver(name)
		if !strings.HasPrefix(name, r) || strings.Count(r, "!") > 1 {
			t.Errorf("receiver of %q is %q", name, r)
		}
		for n := 1; n < 5; n++ {
			if i := ringIndex(r, n); i < 0 || i >= n {
				t.Errorf("host %d of %d", i, n)
			}
		}
	})
}

// TestRing holds the ring to values that channels_redis's formula gives.
func TestRing(t *testing.T) {
	for _, c := range []struct {
		value   string
		n, want int
	}{
		// int((crc32(value) & 0xFFF) / (4096 / n)) worked out by Python
		{"jobs-status_changed", 3, 2},
		{"job_events-42", 3, 0},
		{"specific.abc!", 3, 2},
		{"job_events-42", 7, 1},
	} {
		if got := ringIndex(c.value, c.n); got != c.want {
			t.Errorf("ringIndex(%q, %d) = %d, want %d", c.value, c.n, got, c.want)
		}
	}
}

func FuzzRESP(f *testing.F) {
	for _, s := range []string{
		"*2\r\n$3\r\nabc\r\n$1\r\n1\r\n", "+OK\r\n", "-ERR no\r\n", ":1\r\n", "_\r\n", "$-1\r\n", "*-1\r\n", "%1\r\n+a\r\n:1\r\n",
		">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n+OK\r\n", ">2\r\n$10\r\ninvalidate\r\n_\r\n+OK\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
		"$536870912\r\nabc", "*536870912\r\n", "!5\r\nERR x\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		c := &respConn{r: bufio.NewReader(bytes.NewReader(b)), push: func(string, [][]byte) {}}
		for range 16 {
			if _, err := c.reply(); err != nil {
				if _, ok := err.(replyError); !ok {
					return
				}
			}
		}
	})
}

func TestPushesBetweenReplies(t *testing.T) {
	ours, theirs := net.Pipe()
	defer func() { _ = ours.Close() }()
	var pushed []string
	c := newRespConn(ours, func(kind string, keys [][]byte) {
		pushed = append(pushed, kind+":"+string(bytes.Join(keys, []byte(","))))
	})
	go func() {
		buf := make([]byte, 1024)
		n, _ := theirs.Read(buf)
		if string(buf[:n]) != "*1\r\n$4\r\nPING\r\n" {
			_ = theirs.Close()
			return
		}
		_, _ = theirs.Write([]byte(">2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n+PONG\r\n>2\r\n$10\r\ninvalidate\r\n_\r\n"))
	}()
	reply, err := c.do(5*time.Second, "PING")
	if err != nil || len(reply) != 1 || string(reply[0]) != "PONG" {
		t.Fatalf("%q, %v", reply, err)
	}
	if err := c.wait(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"invalidate:a,b", "invalidate:"}; !slices.Equal(pushed, want) {
		t.Errorf("pushed %q, want %q", pushed, want)
	}
}

func TestCompleteValues(t *testing.T) {
	const message = "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\nab\r\n\r\n"
	for text, want := range map[string]bool{
		message: true, message + "*": true, "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n": true,
		"": false, "*": false, "*3\r\n": false, message[:len(message)-1]: false, message[:12]: false, "+PONG\r\n": false, "*x\r\n": false,
	} {
		c := &respConn{r: bufio.NewReader(strings.NewReader(text))}
		_, _ = c.r.Peek(len(text))
		if got := c.complete(); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
