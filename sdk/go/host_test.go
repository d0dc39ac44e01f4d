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
			Emitted: []Emission{{Group: "alerts", Payload: "1", Audience: Everybody}, {Payload: "2", Audience: 2}},
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
	emit := func(group string, payload []byte) { faults = append(faults, Emit(group, payload)) }
	h := new(Host)
	h.Event(func(*Event) Verdict {
		emit("a b", nil)
		emit("", []byte("\xff"))
		emit("x", make([]byte, 1<<20+1))
		emit("g", nil) // the event's own group may have any name, and any number of hops
		for range 15 {
			emit("", nil)
		}
		emit("", nil)
		return Pass
	}, "g", "{}")
	h.Hops = 3
	h.Event(func(*Event) Verdict { emit("x", nil); return Pass }, "g", "{}")
	h.Hops = 4
	h.Event(func(*Event) Verdict { emit("x", nil); emit("", nil); return Pass }, "g", "{}")
	h.Hops = 0
	h.MaxResult = 2
	h.Event(func(*Event) Verdict { emit("", []byte("123")); emit("", []byte("12")); return Pass }, "g", "{}")
	h.Tick(func() error { emit("", nil); emit("x", nil); return nil })
	want := []error{
		ErrName, ErrName, ErrTooLong, 19: ErrTooMany, 20: nil, 21: ErrHops, 22: nil, 23: ErrTooLong, 24: nil,
		25: ErrName, 26: nil,
	}
	if !reflect.DeepEqual(faults, want) {
		t.Errorf("%v\ninstead of\n%v", faults, want)
	}
}

// TestLargeResults: the limit is 1 MiB, or eight times the input if that is more.
func TestLargeResults(t *testing.T) {
	h := new(Host)
	reply := func(size int) func(*Event) Verdict {
		return func(*Event) Verdict { return Replace([]byte(strings.Repeat("x", size))) }
	}
	large := strings.Repeat("x", 1<<20)
	for _, c := range []struct {
		max, size int
		payload   string
		want      string
	}{
		{0, 1 << 20, "", "replace"},
		{0, 1<<20 + 1, "", "failed"},
		{0, 8<<20 + 8, large, "replace"},
		{0, 8<<20 + 9, large, "failed"},
		{100, 101, large, "failed"},
	} {
		h.MaxResult = c.max
		if r := h.Event(reply(c.size), "g", c.payload); r.Verdict != c.want {
			t.Errorf("%d bytes for %d, limit %d: %s, want %s", c.size, len(c.payload), c.max, r.Verdict, c.want)
		}
	}
	h = &Host{JSON: true}
	if r := h.Event(reply(1), "g", "{}"); r.Err == nil || !strings.Contains(r.Err.Error(), "not JSON") {
		t.Errorf("a replacement that is not JSON: %+v", r)
	}
}

func TestMetadata(t *testing.T) {
	h := &Host{Source: "peer", Sent: time.UnixMilli(1234)}
	check := func(e *Event) Verdict {
		if sent, ok := e.Sent(); !ok || sent != 1234 || e.Source() != "peer" {
			return Error
		}
		return Pass
	}
	if r := h.Event(check, "g", "{}"); r.Err != nil {
		t.Error(r.Err)
	}
	if r := h.Class(func(_ uint8, e *Event) Verdict { return check(e) }, 1, "g", "{}"); r.Err != nil {
		t.Error(r.Err)
	}
	new(Host).Event(func(e *Event) Verdict {
		if sent, ok := e.Sent(); ok || sent != 0 || e.Source() != "" {
			t.Errorf("sent %d, source %s", sent, e.Source())
		}
		return Pass
	}, "g", "{}")
}

func TestTicks(t *testing.T) {
	h := &Host{Grants: []string{"tick", "kv", "emit"}}
	tick := func() error {
		n, _ := KVIncr("ticks", 1, 0)
		Audience(0) // without effect: a tick has no event
		if n > 2 {
			return errors.New("enough")
		}
		return Emit("clock", []byte("tick"))
	}
	for _, want := range []Result{
		{Verdict: "pass", Audience: Everybody, Emitted: []Emission{{Group: "clock", Payload: "tick", Audience: Everybody}}},
		{Verdict: "pass", Audience: Everybody, Emitted: []Emission{{Group: "clock", Payload: "tick", Audience: Everybody}}},
	} {
		if r := h.Tick(tick); !reflect.DeepEqual(r, want) {
			t.Errorf("%+v instead of %+v", r, want)
		}
	}
	if r := h.Tick(tick); r.Verdict != "failed" || !strings.Contains(r.Err.Error(), "enough") || r.Emitted != nil {
		t.Errorf("%+v", r)
	}
	if v, ok := h.Stored("ticks"); v != "3" || !ok {
		t.Errorf("stored %q", v)
	}
}

// TestGrants: a call without its grant fails and says what to write.
func TestGrants(t *testing.T) {
	for grant, f := range map[string]func(){
		"emit": func() { _ = Emit("g", nil) }, "metrics": func() { Count("a", 1) }, "clock": func() { Now() },
		"kv": func() { KVGet("a") }, " kv": func() { KVSet("a", "b", 0) }, "  kv": func() { KVIncr("a", 1, 0) },
	} {
		grant = strings.TrimSpace(grant)
		hook := func(*Event) Verdict { f(); return Pass }
		if r := (&Host{Grants: []string{grant}}).Event(hook, "g", "{}"); r.Err != nil {
			t.Error(r.Err)
		}
		r := (&Host{Grants: []string{}}).Event(hook, "g", "{}")
		if r.Err == nil || !strings.Contains(r.Err.Error(), "'grant "+grant+"'") {
			t.Errorf("without %s: %v", grant, r.Err)
		}
	}
	if r := (&Host{Grants: []string{"kv"}}).Tick(func() error { return nil }); r.Err == nil {
		t.Error("a tick without its grant")
	}
}

func TestLimits(t *testing.T) {
	h := &Host{StoreLimit: 200}
	h.SetTime(time.UnixMilli(5))
	must(t, h.Init(func() error {
		for _, k := range []string{"a", "b"} { // 64 + 1 + 35 bytes each
			if !KVSet(k, strings.Repeat("x", 35), 1000) {
				t.Error("there is room for two")
			}
		}
		if KVSet("c", "x", 0) || !KVSet("a", strings.Repeat("y", 35), 1000) || KVSet("a", strings.Repeat("y", 36), 0) {
			t.Error("the store's limit")
		}
		if _, ok := KVIncr("n", 1, 0); ok {
			t.Error("a counter in a full store")
		}
		for i := range 33 {
			if ok := Count("metric_"+strings.Repeat("x", i), 1); ok != (i < 32) {
				t.Errorf("counter %d: %v", i, ok)
			}
		}
		if !Count("metric_", 1) || Count("9", 1) || Count("", 1) || Count(strings.Repeat("x", 65), 1) {
			t.Error("names of counters")
		}
		Log(LevelWarn, strings.Repeat("x", 5000))
		return nil
	}))
	h.Advance(999 * time.Millisecond)
	must(t, h.Init(func() error {
		if _, ok := KVGet("a"); !ok || Now() != 1004 || KVSet("c", "x", 0) {
			t.Error("a millisecond before the end")
		}
		return nil
	}))
	h.Advance(time.Millisecond)
	must(t, h.Init(func() error {
		if _, ok := KVGet("a"); ok || !KVSet("c", strings.Repeat("x", 135), math.MaxInt64) {
			t.Error("expired entries take room")
		}
		return nil
	}))
	h.Advance(100 * 365 * 24 * time.Hour)
	if _, ok := h.Stored("c"); !ok {
		t.Error("a TTL beyond all time ended")
	}
	if len(h.Logged) != 1 || len(h.Logged[0].Text) != 4096 || !strings.HasPrefix(h.Logged[0].String(), "warn: xxx") {
		t.Errorf("logged %.50v", h.Logged)
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
