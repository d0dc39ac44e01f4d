package edgerelay

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		name    string
		hook    func(*Event) Verdict
		payload string
		want    Result
	}{
		{
			"pass", func(*Event) Verdict { return Pass }, `{"a":1}`,
			Result{Verdict: "pass", Payload: `{"a":1}`, Audience: Everybody},
		},
		{"drop", func(*Event) Verdict { return Drop }, `{}`, Result{Verdict: "drop", Audience: Everybody}},
		{
			"replace", func(e *Event) Verdict { return Replace(append(e.Payload, ' ')) }, `{}`,
			Result{Verdict: "replace", Payload: `{} `, Audience: Everybody},
		},
		{"empty", func(*Event) Verdict { return Replace(nil) }, `{}`, Result{Verdict: "replace", Audience: Everybody}},
		{
			"insert", func(e *Event) Verdict { return e.Insert(`"b":2`) }, ` {"a":1 } `,
			Result{Verdict: "replace", Payload: ` {"a":1 ,"b":2}`, Audience: Everybody},
		},
		{
			"insert into nothing", func(e *Event) Verdict { return e.Insert(`"b":2`) }, `{ }`,
			Result{Verdict: "replace", Payload: `{ "b":2}`, Audience: Everybody},
		},
		{
			"insert into no object", func(e *Event) Verdict { return e.Insert(`"b":2`) }, `[1]`,
			Result{Verdict: "pass", Payload: `[1]`, Audience: Everybody},
		},
		{
			"audience", func(*Event) Verdict { Audience(6); Audience(12); return Pass }, `{}`,
			Result{Verdict: "pass", Payload: `{}`, Audience: 4},
		},
		{"emit", func(e *Event) Verdict {
			if Emit("alerts", []byte("1")) != nil || EmitFor(e.Group, []byte("2"), 2) != nil {
				return Error
			}
			return Drop
		}, `{}`, Result{
			Verdict: "drop", Audience: Everybody,
			Emitted: []Emission{{"alerts", "1", Everybody}, {"", "2", 2}},
		}},
		{"own copy", func(e *Event) Verdict {
			e.Payload[2] = 'x'
			if s, ok := e.Text("a"); !ok || s != "é" {
				return Error
			}
			return Pass
		}, `{"a":"\u00e9"}`, Result{Verdict: "pass", Payload: `{"a":"\u00e9"}`, Audience: Everybody}},
		{"getters", func(e *Event) Verdict {
			n, ok := e.Int("n")
			from, to, found := e.Find("o.s")
			if n != 42 || !ok || !found || string(e.Payload[from:to]) != `"x"` || e.Group != "g" ||
				!e.Has("z") || e.Has("y") || !e.Is("o.s", "x") || e.Is("o.s", "xy") {
				return Error
			}
			return Pass
		}, `{"n":42,"o":{"s":"x"},"z":null}`, Result{
			Verdict: "pass", Payload: `{"n":42,"o":{"s":"x"},"z":null}`, Audience: Everybody,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := new(Host).Event(c.hook, "g", c.payload); !reflect.DeepEqual(got, c.want) {
				t.Errorf("%+v instead of %+v", got, c.want)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	h := new(Host)
	for want, hook := range map[string]func(*Event) Verdict{
		"for a reason":    func(*Event) Verdict { return Fail("for a reason") },
		"panicked":        func(*Event) Verdict { panic("ouch") },
		"UTF-8":           func(*Event) Verdict { return Replace([]byte("\xff")) },
		"unknown verdict": func(*Event) Verdict { return 77 },
	} {
		if r := h.Event(
			hook,
			"g",
			"{}",
		); r.Verdict != "failed" || r.Err == nil ||
			!strings.Contains(r.Err.Error(), want) {
			t.Errorf("%+v, want an error with %q", r, want)
		}
	}
	if err := h.Init(func() error { return errors.New("no") }); err == nil {
		t.Error("the error of a setup is lost")
	}
}

func TestRefusedEmissions(t *testing.T) {
	var faults []error
	new(Host).Event(func(*Event) Verdict {
		faults = append(faults, Emit("a b", nil), Emit("", []byte("\xff")), Emit("x", make([]byte, 1<<20+1)))
		for range 16 {
			faults = append(faults, Emit("", nil))
		}
		faults = append(faults, Emit("", nil))
		return Pass
	}, "g", "{}")
	want := []error{ErrName, ErrName, ErrTooLong, 19: ErrTooMany}
	for i := range want {
		if faults[i] != want[i] && !(want[i] == nil && faults[i] == nil) {
			t.Errorf("emission %d: %v instead of %v", i, faults[i], want[i])
		}
	}
}

func TestSubscribe(t *testing.T) {
	h := new(Host)
	hook := func(r *Request) Answer {
		switch name, _ := r.Text("user.name"); name {
		case "alice":
			return AllowAs(5)
		case "bob":
			return DenyBecause("not yours")
		case "carl":
			return Deny
		case "dora":
			return AllowAs(64)
		}
		if !r.Is("group", "g-1") {
			return AnswerFailed
		}
		return Allow
	}
	for user, want := range map[string]Decision{
		`{"name":"alice"}`: {Allow: true, Class: 5}, `{"name":"bob"}`: {Reason: "not yours"},
		`{"name":"carl"}`: {}, `null`: {Allow: true},
	} {
		if got := h.Subscribe(hook, user, "g-1"); got != want {
			t.Errorf("%s: %+v instead of %+v", user, got, want)
		}
	}
	for _, d := range []Decision{h.Subscribe(hook, `{"name":"dora"}`, "g-1"), h.Subscribe(hook, `{}`, "g-2")} {
		if d.Err == nil || d.Allow {
			t.Errorf("%+v", d)
		}
	}
}

func TestStoreAndCounters(t *testing.T) {
	now := time.Unix(1, 0)
	h := &Host{Config: `{"n": 7, "list": ["a", 2], "deep": {"s": "x"}}`, Clock: func() time.Time { return now }}
	in := func(f func()) { t.Helper(); must(t, h.Init(func() error { f(); return nil })) }
	in(func() {
		if a, _ := KVIncr("n", 2, 1000); a != 2 {
			t.Error(a)
		}
		if a, _ := KVIncr("n", 3, 9000); a != 5 {
			t.Error(a)
		}
		if !KVSet("k", "v", 0) || KVSet("big", strings.Repeat("x", 1<<20), 0) {
			t.Error("set")
		}
		if _, ok := KVIncr("k", 1, 0); ok || hostKVIncr("k", 1, 0) != math.MinInt64 {
			t.Error("a word is no number")
		}
		if Now() != 1000 || !Count("seen_total", 2) || Count("Bad", 1) || Count("seen_total", -1) {
			t.Error("clock, counters")
		}
		if s, ok := ConfigText(
			"deep.s",
		); !ok || s != "x" || ConfigInt("n", 1) != 7 || ConfigInt("m", 1) != 1 ||
			string(Config()) != h.Config {
			t.Error("config")
		}
		if l := ConfigList("list"); !reflect.DeepEqual(l, []string{"a", "2"}) || ConfigList("deep") != nil {
			t.Error(l)
		}
	})
	now = now.Add(time.Second)
	in(func() {
		if _, ok := KVGet("n"); ok {
			t.Error("the TTL counts from the first use")
		}
		if v, ok := KVGet("k"); !ok || v != "v" || !KVSet("k", "", 0) {
			t.Error(v)
		}
		if _, ok := KVGet("k"); ok {
			t.Error("an empty value deletes")
		}
	})
	if h.Metrics["seen_total"] != 2 {
		t.Error(h.Metrics)
	}
}

func TestSampleFilesAreJudged(t *testing.T) {
	file := t.TempDir() + "/events.ndjson"
	write(
		t,
		file,
		`{"group":"g","payload":{"a":1},"verdict":"pass"}`+"\n\n"+`{"group":"g","payload":{"a":2},"verdict":"drop"}`,
	)
	err := new(Host).Samples(func(*Event) Verdict { return Pass }, file)
	if err == nil || !strings.Contains(err.Error(), file+":3: verdict pass, want drop") {
		t.Error(err)
	}
	write(t, file, "")
	if new(Host).Samples(func(*Event) Verdict { return Pass }, file) == nil {
		t.Error("no samples prove nothing")
	}
}

// TestClassesAreChecked: like the relay, a Host renders for classes 0 to 63 only.
func TestClassesAreChecked(t *testing.T) {
	pass := func(uint8, *Event) Verdict { return Pass }
	if r := new(Host).Class(pass, 63, "g", "{}"); r.Verdict != "pass" {
		t.Errorf("class 63: %+v", r)
	}
	if r := new(Host).Class(pass, 64, "g", "{}"); r.Verdict != "failed" || r.Err == nil {
		t.Errorf("class 64: %+v, want a failure", r)
	}
}
