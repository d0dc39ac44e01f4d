package edgerelay

import (
	"strings"
	"testing"
	"time"
)

// sampleHooks is a plugin that uses all that a sample can set.
var sampleHooks = Hooks{
	OnEvent: func(e *Event) Verdict {
		if e.Is("do", "fail") {
			return Fail("for a reason")
		}
		if sent, ok := e.Sent(); ok && e.Source() == "peer" && Now()-sent == 5 {
			return Drop
		}
		if e.Has("alert") {
			Audience(2)
			_ = EmitFor("alerts", []byte(`{"a": "b c"}`), 4)
			_ = Emit("", []byte("x"))
		}
		if e.SetString("seen", "a b") {
			return e.Edited()
		}
		return Pass
	},
	OnClass: func(class uint8, e *Event) Verdict {
		if class == 1 {
			return Drop
		}
		return Pass
	},
	OnSubscribe: func(r *Request) Answer {
		switch name, _ := r.Text("user.name"); name {
		case "alice":
			return AllowAs(3)
		case "bob":
			return DenyBecause("not yours")
		}
		return Deny
	},
	OnTick: func() error { return Emit("clock", []byte("1")) },
}

func TestSamples(t *testing.T) {
	file := t.TempDir() + "/samples.ndjson"
	const day = 24 * 60 * 60 * 1000
	for line, want := range map[string]string{
		// Samples that fit.
		`{"group":"g","payload":{"a":NaN},"verdict":"replace","output":{ "a": NaN, "seen":"a b" }}`:                 "",
		`{"group":"g","text":"no JSON","verdict":"pass","emits":[]}`:                                                "",
		`{"group":"g","payload":{},"output_text":"{\"seen\":\"a b\"}","audience":-1}`:                               "",
		`{"group":"g","payload":1,"sent":"1970-01-02T00:00:00Z","source":"peer","clock":86400005,"verdict":"drop"}`: "",
		`{"group":"g","payload":{"alert":1},"audience":"0x2","emits":[{"group":"alerts","payload":{"a":"b c"},` +
			`"audience":4},{"group":"g","text":"x"}]}`: "",
		`{"group":"g","payload":{"do":"fail"},"verdict":"error","reason":"for a reason"}`:                               "",
		`{"class":1,"group":"g","payload":{},"verdict":"drop"}`:                                                         "",
		`{"hook":"on_class","class":0,"group":"g","text":"","verdict":"pass"}`:                                          "",
		`{"user":{"name":"alice"},"group":"g","verdict":"allow","want_class":3}`:                                        "",
		`{"hook":"on_subscribe","user":{"name":"bob"},"group":"g","verdict":"deny","reason":"not yours"}`:               "",
		`{"hook":"on_tick","verdict":"pass","emits":[{"group":"clock","payload":1}]}`:                                   "",
		`{"text":"a payload, too","a":1}`:                                                                               "",
		`{"at":"1970-01-02T00:00:00Z","group":"g","dropped":3}` + "\n" + `{"at":0,"group":"g","data":{"a":1},"sent":0}`: "",
		`{"a":"a payload without expectations"}`:                                                                        "",
		// Differences.
		`{"group":"g","payload":{},"verdict":"pass"}`:                                      "verdict replace, want pass",
		`{"group":"g","payload":{},"output":{"seen":"ab"}}`:                                `output {"seen":"a b"}, want`,
		`{"group":"g","payload":{},"audience":1}`:                                          "audience 0xffffffffffffffff, want 0x1",
		`{"group":"g","payload":{"alert":1},"emits":[]}`:                                   "2 events emitted, want 0",
		`{"group":"g","payload":{"alert":1},"emits":[{"group":"x"},{}]}`:                   `to "alerts", want any payload to "x"`,
		`{"group":"g","payload":{"alert":1},"emits":[{"group":"alerts","audience":1},{}]}`: "for audience 0x4, want 0x1",
		`{"group":"g","payload":{"do":"fail"}}`:                                            "for a reason",
		`{"group":"g","payload":{"do":"fail"},"verdict":"error","reason":"x y"}`:           `want "x y"`,
		`{"user":{"name":"alice"},"group":"g","want_class":4}`:                             "class 3 (allow), want 4",
		`{"user":{"name":"carl"},"group":"g","want_class":0}`:                              "class 0 (deny), want 0",
		`{"user":{"name":"bob"},"group":"g","reason":"not"}`:                               `the reason is "not yours", want "not"`,
		`{"group":"g","text":"no JSON","output_text":"no JSON"}`:                           "verdict pass, want the output",
		`{"class":1,"group":"g","payload":{},"audience":1}`:                                "verdict drop, want the audience",
		// Faults.
		`{"group":"g","payload":{},"group":"h"}`:         "group: the member occurs twice",
		`{"group":"g","verdict":"pass"}`:                 `a sample with "verdict", but without input`,
		`{"group":"g","payload":{},"verdcit":"pass"}`:    "verdcit: unknown member",
		`{"group":"g","payload":{},"emits":[1]}`:         "emits: use a list of objects",
		`{"hook":"on_fire","group":"g","payload":{}}`:    `unknown hook "on_fire"`,
		`{"hook":"on_class","group":"g","payload":{}}`:   "no class",
		`{"group":"g","payload":{},"clock":"yesterday"}`: "clock: ",
		``: "contains no sample",
	} {
		write(t, file, "\n"+line+"\n")
		h := &Host{Clock: func() time.Time { return time.UnixMilli(day) }}
		switch err := h.Check(sampleHooks, file); {
		case want == "" && err != nil:
			t.Errorf("%s: %v", line, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", line, err, want)
		case want != "" && line != "" && !strings.HasPrefix(err.Error(), file+":2: "):
			t.Errorf("%s: %v does not name the line", line, err)
		}
	}
	write(t, file, `{"hook":"on_tick"}`)
	if err := new(Host).Samples(sampleHooks.OnEvent, file); err == nil || !strings.Contains(err.Error(), "no such hook") {
		t.Errorf("a sample of a missing hook: %v", err)
	}
}

// FuzzParseSample: no line makes the reader panic.
func FuzzParseSample(f *testing.F) {
	f.Add(`{"group":"g","payload":{},"emits":[{"group":"a"}],"audience":"0x2","clock":5}`)
	f.Add(`{"hook":[}}`)
	f.Add(`{"text":"a","sent":}`)
	f.Fuzz(func(_ *testing.T, line string) { _, _ = parseSample([]byte(line)) })
}
