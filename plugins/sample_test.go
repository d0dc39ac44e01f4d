package plugins

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"
)

// A line is a sample or a payload, by its members.
func TestParseSample(t *testing.T) {
	text := func(s string) *string { return &s }
	class := func(c uint8) *uint8 { return &c }
	mask := func(m uint64) *uint64 { return &m }
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		name, line string
		want       Sample
	}{
		{"payload", `{"do": "drop"}`, Sample{Group: "test", Payload: json.RawMessage(`{"do": "drop"}`)}},
		{"payload with a group", `{"group": "x", "a": 1}`, Sample{
			Group: "test", Payload: json.RawMessage(`{"group": "x", "a": 1}`),
		}},
		{"payload with a user", `{"user": "alice", "a": 1}`, Sample{
			Group: "test", Payload: json.RawMessage(`{"user": "alice", "a": 1}`),
		}},
		{"payload with a hook", `{"hook": "push", "a": 1}`, Sample{
			Group: "test", Payload: json.RawMessage(`{"hook": "push", "a": 1}`),
		}},
		{"number", `7`, Sample{Group: "test", Payload: json.RawMessage(`7`)}},
		{"Python's numbers", `{"a": NaN}`, Sample{Group: "test", Text: text(`{"a": NaN}`)}},
		{"plain text", ` no JSON `, Sample{Group: "test", Text: text(` no JSON `)}},
		{"broken JSON", `{"a": `, Sample{Group: "test", Text: text(`{"a": `)}},
		{"sample", `{"group":"g","payload": {"a" : NaN} ,"verdict":"pass"}`, Sample{
			Group: "g", Payload: json.RawMessage(`{"a" : NaN}`), Verdict: "pass",
		}},
		{"null as payload", `{"payload": null}`, Sample{Group: "test", Payload: json.RawMessage(`null`)}},
		{"text", `{"group":"g","text":"\u0000{"}`, Sample{Group: "g", Text: text("\x00{")}},
		{"class", `{"class":0,"group":"g","payload":1,"output":-Infinity,"verdict":"replace"}`, Sample{
			Class: class(0), Group: "g", Payload: json.RawMessage(`1`), Verdict: "replace", Output: json.RawMessage(`-Infinity`),
		}},
		{"user", `{"group":"g","user":{"id":7},"verdict":"allow","want_class":1}`, Sample{
			Group: "g", User: json.RawMessage(`{"id":7}`), Verdict: "allow", WantClass: class(1),
		}},
		{"hook", `{"hook":"on_subscribe","reason":"no","verdict":"deny"}`, Sample{
			Hook: OnSubscribe, Group: "test", Verdict: "deny", Reason: "no",
		}},
		{"recording", `{"group":"g","payload":1,"source":"peer","sent":1767323045000,"at":"2026-01-02T03:04:05Z"}`, Sample{
			Group: "g", Payload: json.RawMessage(`1`), Source: "peer", Sent: at, Clock: at,
		}},
		{"tail", `{"at":"2026-01-02T03:04:05Z","source":"layer","group":"g","data":{}}`, Sample{
			Group: "g", Payload: json.RawMessage(`{}`), Source: "layer", Clock: at,
		}},
		{"emits", `{"payload":1,"emits":[{"group":"b","payload":NaN},{"text":"x","audience":"0x6"},{"audience":-1}],"audience":6}`, Sample{
			Group: "test", Payload: json.RawMessage(`1`), Audience: mask(6),
			Emits: []SampleEmission{
				{Group: "b", Payload: json.RawMessage(`NaN`)}, {Text: text("x"), Audience: mask(6)}, {Audience: mask(allClasses)},
			},
		}},
		{"no emission", `{"payload":1,"emits":[]}`, Sample{Group: "test", Payload: json.RawMessage(`1`), Emits: []SampleEmission{}}},
	} {
		if got, err := ParseSample([]byte(c.line), "test"); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v\n\twant %+v", c.name, got, err, c.want)
		}
	}
	for line, want := range map[string]string{
		`{"payload":1,"verdit":"pass"}`:                    `unknown member "verdit"`,
		`{"group":"g","text":"x","verdit":"pass"}`:         `unknown member "verdit"`,
		`{"verdict":"pass","a":1}`:                         "without input",
		`{"group":"g","payload":1,"verdict":"pass",}`:      "not JSON",
		`{"group":"g",`:                                    "one line",
		`{`:                                                "one line",
		`{"payload":1,"payload":2}`:                        "occurs twice",
		`{"payload":1,"group":7}`:                          "group: ",
		`{"payload":1,"verdict":"allow"}`:                  `invalid verdict "allow" of on_event`,
		`{"user":1,"verdict":"drop"}`:                      "use one of [allow deny error]",
		`{"payload":1,"class":64}`:                         "classes are 0 to 63",
		`{"payload":1,"class":-1}`:                         "class: ",
		`{"payload":1,"user":2}`:                           "user is for on_subscribe",
		`{"hook":"on_subscribe","user":1,"class":1}`:       "use want_class",
		`{"hook":"on_class","payload":1}`:                  "no class",
		`{"hook":"on_event"}`:                              "no payload",
		`{"hook":"on_error","payload":1}`:                  "unknown hook",
		`{"payload":1,"text":"x"}`:                         "both payload and text",
		`{"payload":1,"output":1,"output_text":"1"}`:       "both output and output_text",
		`{"payload":1,"clock":"yesterday"}`:                "RFC 3339",
		`{"payload":1,"clock":1e300}`:                      "Unix milliseconds",
		`{"payload":1,"class":1,"emits":[]}`:               "on_class emits no events",
		`{"payload":1,"want_class":1}`:                     "want_class is for on_subscribe",
		`{"payload":1,"reason":"x"}`:                       "reason is for denials",
		`{"payload":1,"position":"latest"}`:                `position "latest": not a position`,
		`{"payload":1,"emits":[{"grup":"b"}]}`:             "grup: unknown member",
		`{"payload":1,"emits":{}}`:                         "a list",
		`{"payload":1,"emits":[{"payload":1,"text":"1"}]}`: "both payload and text",
		`{"payload":1,"audience":"all"}`:                   "invalid audience",
		"\xff":                                             "not UTF-8",
	} {
		if s, err := ParseSample([]byte(line), "test"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v; want %q", line, s, err, want)
		}
	}
	var s Sample
	if err := json.Unmarshal([]byte(`{"payload":1,"verdit":2}`), &s); err == nil {
		t.Error("encoding/json accepts an unknown member")
	}
}

func TestReadSamples(t *testing.T) {
	file := "\ufeff{\"do\":\"pass\"}\r\n\n  \n{\"at\":\"2026-01-02T03:04:05Z\",\"dropped\":3}\n{\"group\":\"g\",\"payload\":1}"
	r := NewSampleReader(strings.NewReader(file), "test")
	for _, want := range []struct {
		group, payload string
		line, missed   int
	}{{"test", `{"do":"pass"}`, 1, 0}, {"g", "1", 5, 3}} {
		s, err := r.Next()
		if err != nil || s.Group != want.group || string(s.payload()) != want.payload || r.Line() != want.line ||
			r.Missed != want.missed {
			t.Errorf("%+v, line %d, %d missed, %v; want %+v", s, r.Line(), r.Missed, err, want)
		}
	}
	if s, err := r.Next(); err != io.EOF {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := ReadSamples(strings.NewReader("1\n\n{\"payload\":1,\"x\":2}"), ""); err == nil ||
		!strings.HasPrefix(err.Error(), `sample 2: line 3: unknown member "x"`) {
		t.Error(err)
	}
	if _, err := ReadSamples(strings.NewReader("1\n"+strings.Repeat("x", maxSampleLine+1)), ""); err == nil ||
		!strings.HasPrefix(err.Error(), "sample 2: line 2: more than 33554432 bytes") {
		t.Error(err)
	}
}

// Objects of several lines and several samples in a line are read.
func TestReadSamplesOfOtherForms(t *testing.T) {
	read := func(file string) string {
		r := NewSampleReader(strings.NewReader(file), "test")
		var got []string
		for {
			s, err := r.Next()
			if err == io.EOF {
				return strings.Join(got, " ")
			}
			if err != nil {
				return strings.Join(append(got, err.Error()), " ")
			}
			got = append(got, fmt.Sprintf("%d:%s%s", r.Line(), s.payload(), s.Verdict))
		}
	}
	for file, want := range map[string]string{
		`{"payload":1,"verdict":"drop"} {"payload":2}`:                        "1:1drop 1:2",
		"{\n \"payload\":\n {\n\"a\":[\n1,\n2]},\n\"verdict\":\"pass\"\n}\n3": "1:{\n\"a\":[\n1,\n2]}pass 9:3",
		"{\"payload\": 1,\n\"verdict\": \"drop\"}{\"payload\":2}":             "1:1drop 1:2",
		`{"a":1} {"a":2}`:                         `1:{"a":1} {"a":2}`,
		`{"group": "job", "payload": {}}{`:        "1:{} line 1: the line ends inside of an object; write each sample into one line",
		"1\n{\"payload\": [\n2\n":                 "1:1 line 2: an object without end; write each sample into one line",
		`{"payload":1}{"payload":2,"verdit":"x"}`: `1:1 line 1: unknown member "verdit" of a sample; use some of ` + memberNames(),
	} {
		if got := read(file); got != want {
			t.Errorf("%s\n\tis read as %s\n\twant %s", file, got, want)
		}
	}
}

// Samples run every hook, in one instance and store, with the clock that they set.
func TestSamplesOfEveryHook(t *testing.T) {
	p := pipeline(t, Options{})
	for _, c := range []struct{ name, samples, want string }{
		{"verdicts and metadata", `
{"do":"pass"}
{"payload":{"do":"source"},"source":"peer","verdict":"replace","output_text":"peer"}
{"payload":{"do":"sent"},"sent":1700000000123,"output":1700000000123}
{"payload":{"do":"position"},"position":"AAZHX3nT8AAAAAAAAAAAAQ","output_text":"AAZHX3nT8AAAAAAAAAAAAQ"}
{"payload":{"do":"emit_at","at":"AAZHX3nT8AAAAAAAAAAAAQ"},"verdict":"drop","emits":[{"position":"AAZHX3nT8AAAAAAAAAAAAQ"}]}
{"payload":{"do":"split"},"position":"AAZHX3nT8AAAAAAAAAAAAQ","emits":[{"position":""},{}]}
{"payload":{"do":"audience"},"verdict":"pass","audience":4}
{"payload":{"do":"split"},"emits":[{"payload":{"part":2},"audience":-1},{"payload":{ "part":3},"audience":6}]}
{"group":"g1","payload":{"do":"split"},"emits":[{"text":"{\"part\":2}"},{"group":"g1"}]}
{"payload":{"do":"empty"},"output_text":""}
{"payload":{"do":"error"},"verdict":"error","reason":"it was asked for"}
{"payload":{"do":"replace","with":"{\"a\": NaN}"},"output":{"a":NaN}}
{"payload":{"do":"pass","x":NaN},"verdict":"pass"}`, ""},
		{"state", `
{"payload":{"do":"kv_incr"},"output":1}
{"payload":{"do":"kv_incr"},"output":2}
{"payload":{"do":"calls"},"output":3}
{"payload":{"do":"trap"},"verdict":"error","reason":"unreachable"}
{"payload":{"do":"calls"},"output":1}
{"payload":{"do":"kv_incr"},"output":3}`, ""},
		{"clock", `
{"payload":{"do":"now"},"clock":"2026-01-02T03:04:05Z","output":1767323045000}
{"payload":{"do":"kv_incr"},"output":1}
{"payload":{"do":"now"},"clock":1767323045999,"output":1767323045999}
{"payload":{"do":"kv_incr"},"output":2}
{"payload":{"do":"kv_incr"},"clock":1767323046000,"output":1}`, ""},
		{"on_subscribe", `
{"user":{"do":"allow"},"group":"g","verdict":"allow","want_class":0}
{"user":{"do":"class"},"group":"g","verdict":"allow","want_class":5}
{"user":{"do":"deny"},"verdict":"deny"}
{"user":{"do":"reason"},"verdict":"deny","reason":"not yours"}
{"user":{"do":"group"},"group":"job_events-42","reason":"job_events-42"}
{"user":{"do":"trap"},"verdict":"error"}
{"hook":"on_subscribe","group":"g","verdict":"allow"}`, ""},
		{"on_class", `
{"class":0,"payload":{},"verdict":"pass"}
{"class":8,"payload":{},"verdict":"drop"}
{"class":3,"payload":{},"verdict":"replace","output":{"for":3}}
{"class":7,"text":"x","source":"layer","output_text":"layer"}
{"class":6,"text":"x","position":"AAZHX3nT8AAAAAAAAAAAAQAC","output_text":"AAZHX3nT8AAAAAAAAAAAAQAC"}
{"class":9,"payload":{},"verdict":"error","reason":"unreachable"}`, ""},
		{"wrong verdict", `{"user":{"do":"reason"},"verdict":"allow"}`, "verdict deny (not yours), want allow"},
		{
			"wrong position", `{"payload":{"do":"split"},"emits":[{"position":"AAZHX3nT8AAAAAAAAAAAAQ"},{}]}`,
			`emitted event 1 has the position "", want "AAZHX3nT8AAAAAAAAAAAAQ"`,
		},
		{"wrong class", `{"user":{"do":"class"},"want_class":4}`, "class 5, want 4"},
		{"denied", `{"user":{"do":"deny"},"want_class":4}`, "verdict deny, want class 4"},
		{"wrong reason", `{"user":{"do":"reason"},"reason":"x"}`, `the reason "not yours", want "x"`},
		{"no failure", `{"payload":{"do":"pass"},"verdict":"error"}`, "verdict pass, want error"},
		{"another failure", `{"payload":{"do":"trap"},"verdict":"error","reason":"fuel"}`, `the error lacks "fuel": `},
		{"wrong text", `{"payload":{"do":"empty"},"output_text":" "}`, `output "", want " "`},
		{"wrong view", `{"class":3,"payload":{},"output":{"for":4}}`, `output "{\"for\":3}"`},
		{"wrong audience", `{"payload":{"do":"audience"},"audience":6}`, "audience 0x4, want 0x6"},
		{"no audience", `{"payload":{"do":"drop"},"audience":6}`, "verdict drop, want the audience 0x6"},
		{"unwanted emission", `{"payload":{"do":"split"},"emits":[]}`, "2 events emitted, want 0"},
		{
			"wrong audience of an emission", `{"payload":{"do":"split"},"emits":[{"audience":1},{}]}`,
			"emitted event 1 has the audience 0xffffffffffffffff, want 0x1",
		},
		{"kept output", `{"payload":{"do":"pass"},"output":{"do":"pass"}}`, "verdict pass, want the output"},
	} {
		spec := actor(t)
		var err error
		if spec.Samples, err = ReadSamples(strings.NewReader(c.samples), "test"); err != nil {
			t.Fatal(c.name, err)
		}
		err = p.Check(context.Background(), spec)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// Samples of on_tick have a clock, and no event.
func TestSamplesOfTicks(t *testing.T) {
	p := pipeline(t, Options{})
	for _, c := range []struct{ name, config, samples, want string }{
		{"last event of a burst", `{"drop":true}`, `
{"group":"g","payload":1,"verdict":"drop"}
{"group":"g","payload":2,"verdict":"drop"}
{"hook":"on_tick","clock":"2026-01-02T03:04:06Z","verdict":"pass","emits":[{"group":"g","payload":2}]}
{"hook":"on_tick","emits":[]}`, ""},
		{"error", `{"tick":"trap"}`, `{"hook":"on_tick","verdict":"error","reason":"unreachable"}`, ""},
		{"no group", `{"tick":"zero"}`, `{"hook":"on_tick"}`, ""},
		{"missing event", `null`, `{"hook":"on_tick","emits":[{"group":"g"}]}`, "sample 1 (on_tick): 0 events emitted, want 1"},
	} {
		spec := Spec{
			Name: "p", Wasm: fixture(t, "ticker"), Groups: []string{"g"}, Config: json.RawMessage(c.config), Grants: Grants,
		}
		var err error
		if spec.Samples, err = ReadSamples(strings.NewReader(c.samples), "g"); err != nil {
			t.Fatal(c.name, err)
		}
		err = p.Check(context.Background(), spec)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	for line, want := range map[string]string{
		`{"hook":"on_tick","payload":1}`:      "on_tick gets no payload",
		`{"hook":"on_tick","verdict":"drop"}`: "use one of [pass error]",
		`{"hook":"on_tick","output":1}`:       "on_tick has no output",
		`{"hook":"on_tick","class":1}`:        "class is for on_class",
	} {
		if _, err := ParseSample([]byte(line), "test"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

// A module without on_event can have samples, and a sample of a hook that the module lacks fails.
func TestSamplesOfMissingHooks(t *testing.T) {
	p := pipeline(t, Options{})
	check := func(module, samples string) error {
		spec := Spec{Name: "p", Wasm: fixture(t, module), Groups: []string{"g"}}
		var err error
		if spec.Samples, err = ReadSamples(strings.NewReader(samples), "g"); err != nil {
			t.Fatal(err)
		}
		return p.Check(context.Background(), spec)
	}
	if err := check("pass", `{"class":1,"payload":1}`); err == nil ||
		!strings.Contains(err.Error(), "sample 1 (g): the module does not export the hook ev_on_class") {
		t.Error(err)
	}
	if err := check("pass", `{"class":1,"payload":1,"verdict":"error"}`); !errors.Is(err, ErrNoHook) {
		t.Error(err)
	}
}

// A canceled check fails, also if the sample wants an error.
func TestSamplesOfACanceledCheck(t *testing.T) {
	p := pipeline(t, Options{})
	spec := actor(t)
	spec.Samples = []Sample{{Group: "g", Payload: do("pass"), Verdict: "error"}}
	ctx, cancel := context.WithCancel(t.Context())
	if err := p.Check(ctx, spec); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("before: %v", err)
	}
	cancel()
	if err := p.Check(ctx, spec); !errors.Is(err, context.Canceled) {
		t.Errorf("after: %v", err)
	}
}

// Samples with other expectations are other samples: the live module is tried on them.
func TestSamplesKey(t *testing.T) {
	keys := map[string]string{}
	for _, line := range []string{
		`{"payload":1}`, `{"text":"1","group":"test"}`, `{"payload":1,"verdict":"pass"}`, `{"payload":1,"class":0}`,
		`{"payload":1,"class":1}`, `{"payload":1,"clock":1}`, `{"payload":1,"sent":1}`, `{"payload":1,"source":"peer"}`,
		`{"payload":1,"emits":[]}`, `{"payload":1,"emits":[{}]}`, `{"payload":1,"emits":[{"text":""}]}`,
		`{"payload":1,"emits":[{"audience":1}]}`, `{"payload":1,"output":1}`, `{"payload":1,"output_text":"1"}`,
		`{"payload":1,"audience":1}`, `{"user":1}`, `{"user":1,"want_class":0}`, `{"user":1,"want_class":1}`,
		`{"user":1,"reason":"x"}`,
	} {
		parse := func() Sample {
			s, err := ParseSample([]byte(line), "test")
			if err != nil {
				t.Fatal(line, err)
			}
			return s
		}
		key := (&Spec{Samples: []Sample{parse()}}).samplesKey()
		if again := (&Spec{Samples: []Sample{parse()}}).samplesKey(); again != key {
			t.Errorf("%s has two keys", line)
		}
		if other, ok := keys[key]; ok {
			t.Errorf("%s has the key of %s", line, other)
		}
		keys[key] = line
	}
}

func TestDifferences(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{`{"a":1}`, `{"a":1}`, ""},
		{`{"a":1}`, `{"a": 1}`, "only the space between tokens differs"},
		{`{"a":{"b":[1,2]},"c":3}`, `{"a":{"b":[1,4,5]},"d":6}`, `a.b.1: 2 → 4; a.b.2: missing → 5; and 2 more`},
		{`{"a":1,"b":2}`, `{"b":2,"a":1}`, "{}: the members differ in order or number"},
		{
			`{"a":"` + strings.Repeat("x", 100) + `secret"}`, `{"a":"` + strings.Repeat("x", 100) + `***"}`,
			`a: …xxxxxxxxxxxxxxxxxxxxxxxxsecret" → …xxxxxxxxxxxxxxxxxxxxxxxx***"`,
		},
		{`[1]`, `{}`, `[1] → {}`},
		{`[1]`, `[]`, `0: 1 → missing`},
		{`{"a":NaN}`, `{"a":Infinity}`, `a: NaN → Infinity`},
		{`text`, `texts`, `text → texts`},
		{``, `x`, `nothing → x`},
	} {
		got := Differences([]byte(c.a), []byte(c.b), 2)
		if text := strings.Join(got, "; "); text != c.want {
			t.Errorf("%s and %s: %q, want %q", c.a, c.b, text, c.want)
		}
	}
}
