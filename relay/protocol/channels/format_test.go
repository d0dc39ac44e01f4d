package channels_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/protocol/channels"
)

// newRoute returns a route with rules.
func newRoute(t testing.TB, rules ...channels.Rule) *channels.Route {
	t.Helper()
	s, err := channels.NewSettings(rules)
	if err != nil {
		t.Fatal(err)
	}
	r := channels.NewRoute("/ws/", &channels.Node{
		Log: slog.New(slog.DiscardHandler), FrameSize: func() int { return 1 << 16 },
	}, &channels.Stats{})
	r.Apply(s)
	return r
}

func member(names ...string) (list []channels.Member) {
	for _, n := range names {
		renamed, old, ok := strings.Cut(n, "=")
		if !ok {
			old = renamed
		}
		list = append(list, channels.Member{New: renamed, Old: old})
	}
	return list
}

func constants(pairs ...string) (list []channels.Constant) {
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, channels.Constant{Name: pairs[i], Value: json.RawMessage(pairs[i+1])})
	}
	return list
}

const order = `{"type": "order.changed", "id": 7, "state": "h\u00e9\"", "sum": 1.50, "items": [{"a": "]}"}, null], ` +
	`"data": "AAH/"}`

func TestFrames(t *testing.T) {
	for name, c := range map[string]struct {
		rule channels.Rule
		text string
		want string
		kind relay.Frame
	}{
		"string as text":    {channels.Rule{Form: channels.Text, Members: member("state")}, order, "hé\"", relay.TextFrame},
		"number as text":    {channels.Rule{Form: channels.Text, Members: member("sum")}, order, "1.50", relay.TextFrame},
		"value":             {channels.Rule{Form: channels.Value, Members: member("items")}, order, `[{"a": "]}"}, null]`, relay.TextFrame},
		"members":           {channels.Rule{Form: channels.JSON, Members: member("sum", "state")}, order, `{"sum": 1.50, "state": "h\u00e9\""}`, relay.TextFrame},
		"renamed member":    {channels.Rule{Form: channels.JSON, Members: member("total=sum")}, order, `{"total": 1.50}`, relay.TextFrame},
		"member twice":      {channels.Rule{Form: channels.JSON, Members: member("a=id", "b=id")}, order, `{"a": 7, "b": 7}`, relay.TextFrame},
		"constant":          {channels.Rule{Form: channels.JSON, Members: member("id"), Constants: constants("kind", `"order"`, "v", `{"a":[1]}`)}, order, `{"id": 7, "kind": "order", "v": {"a": [1]}}`, relay.TextFrame},
		"whole event":       {channels.Rule{Form: channels.JSON}, order, order, relay.TextFrame},
		"whole, constant":   {channels.Rule{Form: channels.JSON, Constants: constants("k", "1")}, `{"type": "x"}`, `{"type": "x", "k": 1}`, relay.TextFrame},
		"empty, constant":   {channels.Rule{Form: channels.JSON, Constants: constants("k", "1")}, `{ }`, `{ "k": 1}`, relay.TextFrame},
		"fixed":             {channels.Rule{Form: channels.Fixed, Fixed: "reload"}, order, "reload", relay.TextFrame},
		"constant before":   {channels.Rule{Form: channels.JSON, Members: []channels.Member{{New: "k", Constant: json.RawMessage("1")}, {New: "id", Old: "id"}}, Constants: constants("l", "2")}, order, `{"k": 1, "id": 7, "l": 2}`, relay.TextFrame},
		"bytes":             {channels.Rule{Form: channels.Binary, Members: member("data")}, order, "\x00\x01\xff", relay.BinaryFrame},
		"no bytes":          {channels.Rule{Form: channels.Binary, Members: member("state")}, order, "", relay.NoFrame},
		"missing":           {channels.Rule{Form: channels.JSON, Members: member("id", "gone")}, order, "", relay.NoFrame},
		"ignored":           {channels.Rule{Form: channels.Ignore}, order, "", relay.NoFrame},
		"a plugin's text":   {channels.Rule{Form: channels.Payload}, "anything", "anything", relay.TextFrame},
		"not an object":     {channels.Rule{Form: channels.Value, Members: member("id")}, `[1]`, "", relay.NoFrame},
		"cut off":           {channels.Rule{Form: channels.Value, Members: member("id")}, `{"type": "x", "id": `, "", relay.NoFrame},
		"escaped name":      {channels.Rule{Form: channels.Value, Members: member("id")}, `{"\u0069d":1}`, "1", relay.TextFrame},
		"name beyond ASCII": {channels.Rule{Form: channels.JSON, Members: member("größe")}, `{"größe":1}`, `{"gr\u00f6\u00dfe": 1}`, relay.TextFrame},
	} {
		t.Run(name, func(t *testing.T) {
			c.rule.Type = "order.changed"
			r := newRoute(t, c.rule)
			ev := relay.Event{Group: "g", Type: "order.changed", Text: []byte(c.text)}
			got, kind := r.AppendEvent([]byte("before"), &ev, ev.Text)
			if string(got) != "before"+c.want || kind != c.kind {
				t.Errorf("%q %d, want %q %d", got, kind, "before"+c.want, c.kind)
			}
		})
	}
}

// Events of AWX's type are sent as they are, unless a rule says otherwise.
func TestInternalMessages(t *testing.T) {
	ev := relay.Event{Group: "g", Text: []byte(`{"job":  1}`)}
	if got, kind := newRoute(t).AppendEvent(nil, &ev, ev.Text); string(got) != `{"job":  1}` || kind != relay.TextFrame {
		t.Errorf("%q %d", got, kind)
	}
	r := newRoute(t, channels.Rule{Type: channels.InternalMessage, Form: channels.JSON, Members: member("n=job")})
	if got, _ := r.AppendEvent(nil, &ev, ev.Text); string(got) != `{"n": 1}` {
		t.Errorf("%q", got)
	}
}

func TestTypesWithoutRuleAreCounted(t *testing.T) {
	r := newRoute(t)
	for i := range 150 {
		ev := relay.Event{Type: fmt.Sprint("t", i), Text: []byte(`{}`)}
		for range 2 {
			if got, kind := r.AppendEvent(nil, &ev, ev.Text); len(got) > 0 || kind != relay.NoFrame {
				t.Fatalf("%q %d", got, kind)
			}
		}
	}
	unknown := r.Stats.Unknown()
	if len(unknown) != 101 || unknown["t2"] != 2 || unknown[channels.OtherTypes] == 0 || r.Stats.Unrendered.Load() != 300 {
		t.Errorf("%d types, %d of t2, %d others, %d in all", len(unknown), unknown["t2"], unknown[channels.OtherTypes],
			r.Stats.Unrendered.Load())
	}
}

func TestEventsThatCannotBeRenderedAreLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	s, err := channels.NewSettings([]channels.Rule{{Type: "a.b", Form: channels.Text, Members: member("message")}})
	if err != nil {
		t.Fatal(err)
	}
	r := channels.NewRoute("/ws/", &channels.Node{Log: slog.New(slog.NewTextHandler(&log, nil))}, &channels.Stats{})
	r.Apply(s)
	for range 3 {
		ev := relay.Event{Group: "g", Type: "a.b", Text: []byte(`{"type": "a.b", "text": "x"}`)}
		r.AppendEvent(nil, &ev, ev.Text)
	}
	if n := r.Stats.Unrenderable.Load(); n != 3 || r.Stats.Broken()["a.b"] != 3 {
		t.Errorf("%d, %v", n, r.Stats.Broken())
	}
	if strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), `no member \"message\"`) {
		t.Errorf("%s", log.String())
	}
}

func TestRulesAreChecked(t *testing.T) {
	for want, rules := range map[string][]channels.Rule{
		"two rules":      {{Type: "a", Form: channels.Ignore}, {Type: "a", Form: channels.Ignore}},
		"name one":       {{Type: "a", Form: channels.Text}},
		"twice":          {{Type: "a", Form: channels.JSON, Members: member("x", "x=y")}},
		"set needs":      {{Type: "a", Form: channels.Value, Members: member("x"), Constants: constants("k", "1")}},
		"invalid JSON":   {{Type: "a", Form: channels.JSON, Constants: constants("k", "x")}},
		`have "k" twice`: {{Type: "a", Form: channels.JSON, Members: member("k"), Constants: constants("k", "1")}},
	} {
		if _, err := channels.NewSettings(rules); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", rules, err, want)
		}
	}
}

// A reload changes the rules of clients that are connected.
func TestApplyChangesRules(t *testing.T) {
	r := newRoute(t, channels.Rule{Type: "a", Form: channels.Value, Members: member("x")})
	ev := relay.Event{Type: "a", Text: []byte(`{"type": "a", "x": 1, "y": 2}`)}
	s, err := channels.NewSettings([]channels.Rule{{Type: "a", Form: channels.Value, Members: member("y")}})
	if err != nil {
		t.Fatal(err)
	}
	r.Apply(s)
	if got, _ := r.AppendEvent(nil, &ev, ev.Text); string(got) != "2" {
		t.Errorf("%q", got)
	}
}

func FuzzEvents(f *testing.F) {
	f.Add([]byte(order))
	f.Add([]byte(`{"data": "AA==", "state": "\ud83d\ude00"}`))
	f.Add([]byte(`{"a":{"b":[1,"]"]},"state":true}`))
	rules := []channels.Rule{
		{Type: "json", Form: channels.JSON, Members: member("state", "x=id")},
		{Type: "text", Form: channels.Text, Members: member("state")},
		{Type: "whole", Form: channels.JSON, Constants: constants("k", "1")},
		{Type: "bytes", Form: channels.Binary, Members: member("data")},
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r := newRoute(t, rules...)
		var object map[string]json.RawMessage
		valid := json.Unmarshal(text, &object) == nil && object != nil
		for _, rule := range rules {
			ev := relay.Event{Type: rule.Type, Text: text}
			got, kind := r.AppendEvent([]byte("x"), &ev, text)
			if kind == relay.NoFrame && string(got) != "x" {
				t.Fatalf("%s: no frame, but %q", rule.Type, got)
			}
			if valid && rule.Form == channels.JSON && kind == relay.TextFrame && !json.Valid(got[1:]) {
				t.Fatalf("%s: of %q: %q", rule.Type, text, got)
			}
		}
	})
}

func BenchmarkRender(b *testing.B) {
	chat := `{"type": "chat.message", "message": "` + strings.Repeat("hello ", 50) + `", "user": "alice"}`
	for name, c := range map[string]struct {
		rule channels.Rule
		text string
	}{
		"json-300B":      {channels.Rule{Form: channels.JSON, Members: member("message")}, chat},
		"text-300B":      {channels.Rule{Form: channels.Text, Members: member("message")}, chat},
		"whole-300B":     {channels.Rule{Form: channels.JSON}, chat},
		"three-of-order": {channels.Rule{Form: channels.JSON, Members: member("id", "state", "total=sum")}, order},
	} {
		b.Run(name, func(b *testing.B) {
			c.rule.Type = "t"
			r := newRoute(b, c.rule)
			ev := relay.Event{Group: "g", Type: "t", Text: []byte(c.text)}
			dst := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				if _, kind := r.AppendEvent(dst, &ev, ev.Text); kind == relay.NoFrame {
					b.Fatal("no frame")
				}
			}
		})
	}
}
