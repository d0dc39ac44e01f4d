package webhttp

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestInstruct(t *testing.T) {
	for _, c := range []struct {
		name   string
		header map[string]string
		want   instruct
		err    string
	}{
		{name: "channels", header: map[string]string{
			"Grip-Hold": "stream", "Grip-Channel": `a; prev-id="1; 2,3"; filter=skip-self; filter=var-subst, b,a ; prev-id=4`,
			"Grip-Link": "</next?x=1>; rel=next; timeout=7, </gone>; rel=gone, </other>; rel=self",
		}, want: instruct{
			mode: holdStream, channels: []channelHold{{name: "b"}, {name: "a", prevID: "4", ordered: true}},
			next: "/next?x=1", nextEvery: 7 * time.Second, gone: "/gone",
		}},
		{name: "keep-alive, cstring", header: map[string]string{
			"Grip-Hold": "stream", "Grip-Keep-Alive": `event: keep-alive\ndata: \\\x41,\n\n; format=cstring; timeout=20; mode=interval`,
		}, want: instruct{
			mode: holdStream, keepAlive: []byte("event: keep-alive\ndata: \\A,\n\n"), keepEvery: 20 * time.Second, keepRegular: true,
		}},
		{name: "keep-alive, base64", header: map[string]string{"Grip-Keep-Alive": "AAEC; format=base64"}, want: instruct{
			keepAlive: []byte{0, 1, 2}, keepEvery: 55 * time.Second,
		}},
		{name: "meta", header: map[string]string{"Grip-Set-Meta": `user="a\"b", id_format="x:%(c)s,y"`}, want: instruct{
			meta: []pair{{"user", `a"b`}, {"id_format", "x:%(c)s,y"}},
		}},
		{name: "timeout", header: map[string]string{"Grip-Hold": "response", "Grip-Timeout": "9"}, want: instruct{
			mode: holdResponse, timeout: 9 * time.Second,
		}},
		{name: "mode", header: map[string]string{"Grip-Hold": "forever"}, err: "use response or stream"},
		{name: "ids without a link", header: map[string]string{
			"Grip-Hold": "stream", "Grip-Channel": "a; prev-id=1",
		}, err: "rel=next"},
		{name: "filters", header: map[string]string{
			"Grip-Channel": "a" + strings.Repeat("; filter=skip-self", 6),
		}, err: "more than 5 filters"},
		{name: "status", header: map[string]string{"Grip-Status": "101 x"}, err: "use 200 to 599"},
		{name: "link", header: map[string]string{"Grip-Link": "/next; rel=next"}, err: "in < and >"},
		{name: "cstring", header: map[string]string{"Grip-Keep-Alive": `\x4; format=cstring`}, err: "hexadecimal"},
		{name: "format", header: map[string]string{"Grip-Keep-Alive": `x; format=json`}, err: "raw, cstring or base64"},
		{name: "time", header: map[string]string{"Grip-Timeout": "-1"}, err: "whole seconds"},
		{name: "quote", header: map[string]string{"Grip-Set-Meta": `user="a`}, err: "has no end"},
		{name: "too much meta", header: map[string]string{"Grip-Set-Meta": "x=" + strings.Repeat("y", 17<<10)}, err: "too much meta"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := http.Header{}
			for name, value := range c.header {
				h.Set(name, value)
			}
			got, err := parseInstruct(200, h, nil)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want one with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			c.want.status, c.want.header = 200, http.Header{}
			if c.want.timeout == 0 {
				c.want.timeout = defaultHoldTimeout
			}
			if !reflect.DeepEqual(*got, c.want) {
				t.Errorf("got %+v\nwant %+v", *got, c.want)
			}
		})
	}
}

func TestExposedHeaders(t *testing.T) {
	in, err := parseInstruct(200, http.Header{
		"Grip-Expose-Headers": {"x-one, Content-Type"}, "X-One": {"1"}, "X-Two": {"2"}, "Content-Type": {"text/plain"},
	}, nil)
	want := http.Header{"X-One": {"1"}, "Content-Type": {"text/plain"}}
	if err != nil || !reflect.DeepEqual(in.header, want) {
		t.Errorf("%v, %v; want %v", in.header, err, want)
	}
}

// The cases are those of RFC 6902, appendix A.
func TestJSONPatch(t *testing.T) {
	for _, c := range []struct{ document, patch, want string }{
		{`{"foo": "bar"}`, `[{"op": "add", "path": "/baz", "value": "qux"}]`, `{"baz":"qux","foo":"bar"}`},
		{`{"foo": ["bar", "baz"]}`, `[{"op": "add", "path": "/foo/1", "value": "qux"}]`, `{"foo":["bar","qux","baz"]}`},
		{`{"baz": "qux", "foo": "bar"}`, `[{"op": "remove", "path": "/baz"}]`, `{"foo":"bar"}`},
		{`{"foo": ["bar", "qux", "baz"]}`, `[{"op": "remove", "path": "/foo/1"}]`, `{"foo":["bar","baz"]}`},
		{`{"baz": "qux"}`, `[{"op": "replace", "path": "/baz", "value": "boo"}]`, `{"baz":"boo"}`},
		{
			`{"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}}`,
			`[{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}]`,
			`{"foo":{"bar":"baz"},"qux":{"corge":"grault","thud":"fred"}}`,
		},
		{
			`{"foo": ["all", "grass", "cows", "eat"]}`, `[{"op": "move", "from": "/foo/1", "path": "/foo/3"}]`,
			`{"foo":["all","cows","eat","grass"]}`,
		},
		{`{"baz": "qux"}`, `[{"op": "test", "path": "/baz", "value": "bar"}]`, ""},
		{`{"foo": "bar"}`, `[{"op": "add", "path": "/child", "value": {"grandchild": {}}}]`, `{"child":{"grandchild":{}},"foo":"bar"}`},
		{`{"foo": "bar"}`, `[{"op": "add", "path": "/baz/bat", "value": "qux"}]`, ""},
		{`{"/": 9, "~1": 10}`, `[{"op": "test", "path": "/~01", "value": 10}]`, `{"/":9,"~1":10}`},
		{`{"/": 9, "~1": 10}`, `[{"op": "test", "path": "/~01", "value": "10"}]`, ""},
		{`{"foo": ["bar"]}`, `[{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}]`, `{"foo":["bar",["abc","def"]]}`},
		{`{"a": {"b": 1}}` + "\r\n", `[{"op": "copy", "from": "/a", "path": "/a/c"}]`, `{"a":{"b":1,"c":{"b":1}}}` + "\r\n"},
		{`{"a": {}}`, `[{"op": "move", "from": "/a", "path": "/a/b"}]`, ""},
		{`{"n": 12345678901234567890}`, `[]`, `{"n":12345678901234567890}`},
		{`no JSON`, `[]`, ""},
	} {
		var p jsonPatch
		if err := json.Unmarshal([]byte(c.patch), &p); err != nil {
			t.Fatal(err)
		}
		if got, err := p.apply([]byte(c.document)); string(got) != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s after %s: %q, %v; want %q", c.document, c.patch, got, err, c.want)
		}
	}
}

// Filters of django-eventstream: the id of an event is made of the ids of all channels.
func TestBuildID(t *testing.T) {
	meta := map[string]string{"id_format": "a%%2F:%(events-a%2F)s,b:%(events-b)s"}
	ids := map[string]string{"events-a%2F": "7", "events-b": "9"}
	s := subscriber{
		value:  func(name string) (string, bool) { v, ok := meta[name]; return v, ok },
		lastID: func(channel string) (string, bool) { v, ok := ids[channel]; return v, ok },
	}
	for _, c := range []struct {
		content, want string
		ok            bool
	}{
		{"id: %I\ndata: 50%%\n", "id: a%2F:7,b:9\ndata: 50%\n", true},
		{"%(given)I", "given", true},
		{"%s", "", false},
		{"%", "", false},
		{"%(open", "", false},
	} {
		got, ok := s.change(filterBuildID, []byte(c.content))
		if string(got) != c.want || ok != c.ok {
			t.Errorf("%q: %q, %v; want %q, %v", c.content, got, ok, c.want, c.ok)
		}
	}
	meta["id_encoding"] = "hex"
	if got, _ := s.change(filterBuildID, []byte("%(AB)I")); string(got) != "4142" {
		t.Errorf("hex: %q, want 4142", got)
	}
	delete(ids, "events-b")
	if got, ok := s.change(filterBuildID, []byte("%I")); ok {
		t.Errorf("an id without one of its parts: %q", got)
	}
}

// FuzzInstruct reads instructions of headers and of JSON.
func FuzzInstruct(f *testing.F) {
	f.Add("stream", `a; prev-id=1; filter="x\"", b`, `x\n; format=cstring; timeout=1`, "</n>; rel=next", `u="1"`, "")
	f.Add("response", "", "AA==; format=base64", "", "", `{"hold": {"channels": [{"name": "a"}]}, "response": {"headers": [["a", "b"]]}}`)
	f.Fuzz(func(t *testing.T, hold, channel, keep, link, meta, body string) {
		h := http.Header{
			"Grip-Hold": {hold}, "Grip-Channel": {channel}, "Grip-Keep-Alive": {keep}, "Grip-Link": {link},
			"Grip-Set-Meta": {meta}, "X-Other": {"1"},
		}
		if body != "" {
			h.Set("Content-Type", InstructType)
		}
		in, err := parseInstruct(200, h, []byte(body))
		if err != nil {
			return
		}
		if !validStatus(in.status) || in.timeout < 0 || in.keepEvery < 0 || len(in.meta) > maxMeta {
			t.Errorf("%+v", in)
		}
		for name := range in.header {
			if strings.HasPrefix(name, "Grip-") && body == "" {
				t.Errorf("the client gets %s", name)
			}
		}
		_, _ = in.content()
	})
}

// FuzzHTTPItem reads items for held clients, and applies their patches.
func FuzzHTTPItem(f *testing.F) {
	f.Add([]byte(`{"id": "1", "http-stream": {"content": "x"}}`), []byte(`{}`))
	f.Add([]byte(`{"http-response": {"body-patch": [{"op": "copy", "from": "/a", "path": "/a/-"}]}}`), []byte(`{"a": [1]}`))
	f.Fuzz(func(t *testing.T, text, document []byte) {
		it := parseHTTPItem(append([]byte("grip.room\n"), text...))
		if it == nil || it.response == nil {
			return
		}
		if !validStatus(it.response.status) {
			t.Errorf("status %d", it.response.status)
		}
		if it.response.patch == nil {
			return
		}
		if out, err := it.response.patch.apply(document); err == nil && !json.Valid(out) {
			t.Errorf("%q after the patch is no JSON", out)
		}
	})
}
