package asgi

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"

	"github.com/edgerelay/edgerelay/internal/pyjson"
	"github.com/edgerelay/edgerelay/relay"
)

// python runs testdata/corpus.py with the Debian packages, and returns the lines that it writes.
func python(t testing.TB, stdin string, args ...string) []string {
	t.Helper()
	cmd := exec.Command("/usr/bin/python3", append([]string{"testdata/corpus.py"}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var failure strings.Builder
	cmd.Stderr = &failure
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("python3: %v\n%s", err, failure.String())
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}

// sample is a message of Python.
type sample struct {
	packed, encoded         []byte // in msgpack and in JSON
	wantPacked, wantEncoded string // as json.dumps writes it
}

func (s *sample) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&s.packed, &s.encoded, &s.wantPacked, &s.wantEncoded})
}

func samples(t testing.TB, count string) (list []sample) {
	t.Helper()
	for _, line := range python(t, "", "emit", count) {
		var s sample
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

func TestObjectsAreTheTextsOfPython(t *testing.T) {
	for i, s := range samples(t, "2000") {
		for serializer, c := range map[string]struct {
			raw  []byte
			want string
		}{"msgpack": {s.packed, s.wantPacked}, "json": {s.encoded, s.wantEncoded}} {
			codec, _ := NewCodec(serializer, nil)
			m, err := codec.Decode(c.raw, true)
			if err != nil || string(m.Object) != c.want {
				t.Fatalf("%d, %s: %v\ngot  %s\nwant %s", i, serializer, err, m.Object, c.want)
			}
			var want struct{ Type string }
			_ = json.Unmarshal([]byte(c.want), &want) // stops at NaN
			if ev, ok := m.Event(); !ok || ev.Type != m.Type || want.Type != "" && ev.Type != want.Type {
				t.Fatalf("%d, %s: got type %q, want %q", i, serializer, ev.Type, want.Type)
			}
			if len(m.Channels) == 0 || !strings.HasPrefix(m.Channels[0], "specific.a!") {
				t.Fatalf("%d, %s: channels %q", i, serializer, m.Channels)
			}
		}
	}
}

func TestObjectsOnlyIfWanted(t *testing.T) {
	for _, serializer := range []string{"msgpack", "json", "msgpack encrypted", "json encrypted"} {
		c := testCodec(t, serializer)
		p, err := c.Pack(&relay.Message{Type: "chat.message", Text: []byte(`{"text": {}, "groups": 1, "n": 1.50}`), Sender: "s"})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := c.EncodePacked(p, []string{"specific.a!1"})
		if err != nil {
			t.Fatal(err)
		}
		m, err := c.Decode(raw, false)
		if _, ok := m.Event(); err != nil || ok || m.Type != "chat.message" {
			t.Errorf("%s, off: %+v, %v", serializer, m, err)
		}
		if m, err = c.Decode(raw, true); err != nil {
			t.Fatal(serializer, err)
		}
		want := `{"type": "chat.message", "text": {}, "groups": 1, "n": 1.5}`
		ev, ok := m.Event()
		if !ok || string(ev.Text) != want || ev.Type != "chat.message" || ev.Sender != "s" || m.Channels[0] != "specific.a!1" {
			t.Errorf("%s: got %+v %s", serializer, ev, ev.Text)
		}
	}
}

// Messages about subscriptions are for AWX's nodes, and never for clients.
func TestControlStaysControl(t *testing.T) {
	for serializer, raw := range map[string]string{
		"msgpack": "\x82\xa4type\xb2consumer.subscribe\xa6groups\x91\xa1g",
		"json":    `{"type": "consumer.subscribe", "groups": ["g"]}`,
	} {
		c, _ := NewCodec(serializer, nil)
		m, err := c.Decode([]byte(raw), true)
		ev, ok := m.Event()
		if err != nil || !ok || ev.Control == nil || ev.Type != "" || m.Object != nil {
			t.Errorf("%s: %+v, %v, %v", serializer, ev, ok, err)
		}
	}
}

func TestMessagesWithoutObject(t *testing.T) {
	deep := func(n int) string { return "\x82\xa4type\xa1t\xa1x" + strings.Repeat("\x91", n) + "\xc0" }
	for name, c := range map[string]struct {
		serializer, raw string
		want            error
	}{
		"not UTF-8":          {"msgpack", "\x82\xa4type\xa1t\xa1x\xa1\xff", pyjson.ErrUTF8},
		"a name that is not": {"msgpack", "\x82\xa4type\xa1t\xa1\xff\x01", pyjson.ErrUTF8},
		"a timestamp":        {"msgpack", "\x82\xa4type\xa1t\xa1x\xd6\xff\x00\x00\x00\x01", errExtension},
		"an extension":       {"msgpack", "\x82\xa4type\xa1t\xa1x\xd4\x07\x00", errExtension},
		"bytes as a name":    {"msgpack", "\x82\xa4type\xa1t\xc4\x01x\x01", errName},
		"too deep":           {"msgpack", deep(pyjson.MaxDepth), pyjson.ErrDepth},
		"a long type":        {"msgpack", "\x81\xa4type\xda\x01\x00" + strings.Repeat("x", 256), ErrObject},
		"too deep, JSON":     {"json", `{"type": "t", "x": ` + strings.Repeat("[", pyjson.MaxDepth) + strings.Repeat("]", pyjson.MaxDepth) + "}", pyjson.ErrDepth},
		"not UTF-8, JSON":    {"json", "{\"type\": \"t\", \"x\": \"\xff\"}", pyjson.ErrUTF8},
		"long number, JSON":  {"json", `{"type": "t", "x": ` + strings.Repeat("1", 5000) + "}", pyjson.ErrNumber},
	} {
		codec, _ := NewCodec(c.serializer, nil)
		m, err := codec.Decode([]byte(c.raw), true)
		if !errors.Is(err, c.want) || !errors.Is(err, ErrObject) {
			t.Errorf("%s: got %s, %v; want %v", name, m.Object, err, c.want)
		}
	}
	codec, _ := NewCodec("msgpack", nil)
	if m, err := codec.Decode([]byte(deep(pyjson.MaxDepth-1)), true); err != nil || m.Object == nil {
		t.Errorf("%d levels: %v", pyjson.MaxDepth, err)
	}
}

// What is no JSON at all has another cause: the serializer.
func TestOtherSerializer(t *testing.T) {
	codec, _ := NewCodec("json", nil)
	if _, err := codec.Decode([]byte("\x81\xa4type\xa1t"), true); err == nil || errors.Is(err, ErrObject) {
		t.Errorf("got %v", err)
	}
}

func TestPackedMessagesInPython(t *testing.T) {
	message := relay.Message{
		Type: "chat.message", Sender: "node/7", Binary: []string{"raw", "ü"},
		Text: []byte(`{"type": "x", "__asgi_channel__": ["y"], "edgerelay_sender": "z", "text": "\u00e4\ud83d\ude00\n",
			"i": [0, -1, 127, 128, -33, 18446744073709551615, -9223372036854775808], "f": [1.0, 1e3, -0.5, 1e400],
			"o": {"a": {"b": [true, false, null, {}, []]}, "a b": ""}, "raw": "AP8=", "ü": "", "i2": 1, "i2": 2}`),
	}
	const want = `{'type': 'chat.message', 'text': '\xe4\U0001f600\n', ` +
		`'i': [0, -1, 127, 128, -33, 18446744073709551615, -9223372036854775808], 'f': [1.0, 1000.0, -0.5, inf], ` +
		`'o': {'a': {'b': [True, False, None, {}, []]}, 'a b': ''}, 'raw': b'\x00\xff', '\xfc': b'', 'i2': 2, ` +
		`'edgerelay_sender': 'node/7', '__asgi_channel__': ['specific.a!1', 'specific.a!2']}`
	c, _ := NewCodec("msgpack", nil)
	p, err := c.Pack(&message)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := c.EncodePacked(p, []string{"specific.a!1", "specific.a!2"})
	if err != nil {
		t.Fatal(err)
	}
	if got := python(t, base64.StdEncoding.EncodeToString(raw), "read"); got[0] != want {
		t.Errorf("got  %s\nwant %s", got[0], want)
	}
}

// What Python has sent comes back the same.
func TestPackedObjectsRoundTrip(t *testing.T) {
	for i, s := range samples(t, "300") {
		for _, serializer := range []string{"msgpack", "json"} {
			c, _ := NewCodec(serializer, nil)
			m, err := jsonObject(s.encoded)
			if err != nil {
				t.Fatal(err)
			}
			p, err := c.Pack(&relay.Message{Type: m.Type, Text: m.Object})
			if err != nil {
				t.Fatal(i, serializer, err)
			}
			raw, _ := c.EncodePacked(p, nil)
			got, err := c.Decode(raw, true)
			want, _ := Object(&relay.Message{Type: m.Type, Text: m.Object})
			if err != nil || string(got.Object) != string(want) {
				t.Fatalf("%d, %s: %v\ngot  %s\nwant %s", i, serializer, err, got.Object, want)
			}
		}
	}
}

func TestMessagesThatCannotBePacked(t *testing.T) {
	for name, m := range map[string]relay.Message{
		"no object":      {Type: "t", Text: []byte(`[1]`)},
		"no JSON":        {Type: "t", Text: []byte(`{"x": }`)},
		"two texts":      {Type: "t", Text: []byte(`{} {}`)},
		"not UTF-8":      {Type: "t", Text: []byte("{\"x\": \"\xff\"}")},
		"a long integer": {Type: "t", Text: []byte(`{"x": 18446744073709551616}`)},
		"no base64":      {Type: "t", Text: []byte(`{"x": "ü"}`), Binary: []string{"x"}},
		"no string":      {Type: "t", Text: []byte(`{"x": 1}`), Binary: []string{"x"}},
		"AWX's type":     {Type: "internal.message", Text: []byte(`{"text": "x"}`)},
		"control":        {Type: "consumer.subscribe", Text: []byte(`{}`)},
		"underscore":     {Type: "_private", Text: []byte(`{}`)},
		"text not UTF-8": {Text: []byte("\xff"), Sender: "s"},
	} {
		c, _ := NewCodec("msgpack", nil)
		if p, err := c.Pack(&m); err == nil {
			t.Errorf("%s: got %q", name, p.raw)
		}
	}
}

// A text without a type keeps the form of AWX, with the sender.
func TestPackedTextWithSender(t *testing.T) {
	for _, serializer := range []string{"msgpack", "json"} {
		c, _ := NewCodec(serializer, nil)
		p, err := c.Pack(&relay.Message{Text: []byte(`{"a":  "ä"}`), Sender: "s"})
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := c.EncodePacked(p, nil)
		m, err := c.Decode(raw, false)
		ev, ok := m.Event()
		if err != nil || !ok || string(ev.Text) != `{"a":  "ä"}` || ev.Type != "" || ev.Sender != "s" || !ev.NeedsRelay {
			t.Errorf("%s: %+v %s, %v", serializer, ev, ev.Text, err)
		}
	}
}

func FuzzObject(f *testing.F) {
	for _, s := range samples(f, "40") {
		f.Add(s.packed, false)
		f.Add(s.encoded, true)
	}
	f.Fuzz(func(t *testing.T, raw []byte, asJSON bool) {
		serializer := "msgpack"
		if asJSON {
			serializer = "json"
		}
		c, _ := NewCodec(serializer, nil)
		m, err := c.Decode(raw, true)
		if err != nil || m.Object == nil {
			return
		}
		if len(m.Object) > 8*len(raw)+8 {
			t.Errorf("%d bytes from %d", len(m.Object), len(raw))
		}
		if !utf8.Valid(m.Object) {
			t.Errorf("not UTF-8: %q", m.Object)
		}
		again, err := pyjson.Append(nil, m.Object)
		if err != nil || asJSON && string(again) != string(m.Object) {
			t.Errorf("%s\nagain %s, %v", m.Object, again, err)
		}
		if strings.Contains(string(again), "NaN") || strings.Contains(string(again), "Infinity") {
			return
		}
		if !json.Valid(again) {
			t.Errorf("not JSON: %s", again)
		}
		p, err := c.Pack(&relay.Message{Type: "t", Text: m.Object})
		if err != nil {
			return // such as a long integer
		}
		if packed, _ := c.EncodePacked(p, nil); !asJSON {
			if rest, err := msgp.Skip(packed); err != nil || len(rest) > 0 {
				t.Errorf("%q: %q, %v", packed, rest, err)
			}
		}
	})
}
