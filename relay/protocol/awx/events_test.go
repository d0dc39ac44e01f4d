package awx

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/edgerelay/edgerelay/relay"
)

var (
	position = relay.Position{Micros: 1_764_378_000_123_456, Mark: 42}
	token    = position.String()
)

func TestEvents(t *testing.T) {
	at := `{"type":"event","group":"job_events-42","position":"` + token + `","time":1764378000.123456,`
	sent := time.UnixMicro(-1_000_005)
	for name, c := range map[string]struct {
		event relay.Event
		text  string
		want  string
	}{
		"object":   {relay.Event{Position: position}, `{"a":  1.50}`, at + `"event":{"a":  1.50}}`},
		"list":     {relay.Event{Position: position}, " [1]\n", at + `"event": [1]` + "\n}"},
		"number":   {relay.Event{Position: position}, `-0.0e+1`, at + `"event":-0.0e+1}`},
		"word":     {relay.Event{Position: position}, `null`, at + `"event":null}`},
		"string":   {relay.Event{Position: position}, `"ü"`, at + `"event":"ü"}`},
		"text":     {relay.Event{Position: position}, "a\n\"ü\"", at + `"text":"a\n\"\u00fc\""}`},
		"empty":    {relay.Event{Position: position}, ``, at + `"text":""}`},
		"NaN":      {relay.Event{Position: position}, `{"a": NaN}`, at + `"text":"{\"a\": NaN}"}`},
		"two":      {relay.Event{Position: position}, `{} {}`, at + `"text":"{} {}"}`},
		"sent":     {relay.Event{Sent: sent}, `1`, `{"type":"event","group":"job_events-42","time":-1.000005,"event":1}`},
		"no time":  {relay.Event{}, `1`, `{"type":"event","group":"job_events-42","event":1}`},
		"counter":  {relay.Event{}, `{"counter": 117}`, `{"type":"event","group":"job_events-42","counter":117,"event":{"counter": 117}}`},
		"imitates": {relay.Event{}, `1},{"type":"gap"`, `{"type":"event","group":"job_events-42","text":"1},{\"type\":\"gap\""}`},
	} {
		t.Run(name, func(t *testing.T) {
			c.event.Group, c.event.Text = "job_events-42", []byte("not this one")
			if got := string((Protocol{}).AppendEvent([]byte("before"), &c.event, []byte(c.text))); got != "before"+c.want {
				t.Errorf("got  %s\nwant before%s", got, c.want)
			}
		})
	}
}

func TestFrames(t *testing.T) {
	var p Protocol
	wrapped := fmt.Errorf("reading: %w", relay.NotRecoveredGap)
	for got, want := range map[string]string{
		string(p.EncodeResumed(relay.Resumed{Group: "a-1"})):                                             `{"type":"subscribed","group":"a-1"}`,
		string(p.EncodeResumed(relay.Resumed{Group: "a-1", Asked: true, Reason: relay.NotRecoveredOff})): `{"type":"subscribed","group":"a-1","recovered":false,"reason":"no_history"}`,
		string(p.EncodeResumed(relay.Resumed{Group: "a-1", Position: position})):                         `{"type":"subscribed","group":"a-1","position":"` + token + `","events":0}`,
		string(p.EncodeResumed(relay.Resumed{Group: "a-1", Position: position, Asked: true, Events: 3})): `{"type":"subscribed","group":"a-1","position":"` + token + `","recovered":true,"events":3}`,
		string(p.EncodeResumed(relay.Resumed{Group: "a-1", Position: position, Asked: true, Reason: wrapped})): `{"type":"subscribed","group":"a-1","position":"` + token +
			`","recovered":false,"reason":"gap","events":0}`,
		string(p.EncodeResumed(relay.Resumed{Group: "a-1", Asked: true, Reason: fmt.Errorf("no Redis")})): `{"type":"subscribed","group":"a-1","recovered":false,"reason":"unavailable"}`,
		string(p.EncodeGap(relay.Gap{Groups: []string{"a-1", "b-2"}, Cause: relay.LossMailboxFull, Events: 3, Position: position})): `{"type":"gap","groups":["a-1","b-2"],"position":"` + token +
			`","reason":"mailbox_full","events":3}`,
		string(p.EncodeGap(relay.Gap{Cause: relay.LossFailover})): `{"type":"gap","reason":"failover"}`,
		string(p.EncodeWithheld("a-1", position)):                 `{"type":"withheld","group":"a-1","position":"` + token + `"}`,
	} {
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestCounter(t *testing.T) {
	for text, want := range map[string]string{
		`{"counter": 117, "x": {"counter": 3}}`:        "117",
		`{"x": {"counter": 3}}`:                        "",
		`[{"counter": 3}]`:                             "",
		`{"counter": 1.0}`:                             "",
		`{"counter": 1e2}`:                             "",
		`{"counter": "3"}`:                             "",
		`{"counter": [3]}`:                             "",
		`{"counter": {"counter": 3}}`:                  "",
		`{"counter": -3}`:                              "-3",
		`{"counter": 999999999999999}`:                 "999999999999999",
		`{"counter": 9999999999999999}`:                "",
		`{"counter": 1, "counter": 2}`:                 "2",
		`{"counter": 1, "counter": null}`:              "",
		`{"a": [1, {"b": []}], "counter" : 5, "c": 1}`: "5",
	} {
		if got, ok := scanJSON([]byte(text)); !ok || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", text, got, ok, want)
		}
	}
}

func TestDepthIsBounded(t *testing.T) {
	for depth, want := range map[int]bool{1: true, 63: true, 64: true, 65: true, maxDepth: true, maxDepth + 1: false, 100_000: false} {
		for _, level := range []string{"[]", `{"a":}`} {
			open, end := level[:len(level)-1], level[len(level)-1:]
			text := strings.Repeat(open, depth-1) + level[:1] + end + strings.Repeat(end, depth-1)
			if _, ok := scanJSON([]byte(text)); ok != want {
				t.Errorf("%d levels of %s: %v, want %v", depth, level, ok, want)
			}
		}
	}
}

var jsonTexts = []string{
	`{"a": [1, -2.5e-3, true, false, null, "\u00e9\n", {}], "counter": 7}`, `NaN`, `{"a": Infinity}`, `[1,]`, `{"a":1,}`, `{,}`, `01`, `-`,
	`1.`, `.5`, `1e`, `"\x"`, `"\u12g4"`, "\"\x01\"", `"`, `"\`, `tru`, `nulll`, `[1}`, `{"a"}`, `{"a":}`, `{1:2}`, ``, ` `, "\ufeff{}", `"\ud800"`,
	`{"type":"gap","groups":["a-1"],"reason":"failover"}`, `1},{"type":"gap"`, "[[]]\x00", "1\v", `"\u0!00"`, "\"\x7f\"", "[1 2]", `{"a" 1}`,
}

// FuzzScanJSON compares scanJSON with encoding/json.
func FuzzScanJSON(f *testing.F) {
	for _, text := range jsonTexts {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		counter, ok := scanJSON(text)
		if want := json.Valid(text); ok != want && !(want && depth(text) > maxDepth) {
			t.Fatalf("%q is valid: %v, want %v", text, ok, want)
		}
		var object map[string]json.RawMessage
		if !ok || json.Unmarshal(text, &object) != nil || counter == nil {
			return
		}
		if string(object["counter"]) != string(counter) {
			t.Errorf("%q: counter %q, want %q", text, counter, object["counter"])
		}
	})
}

// depth returns a number that is at least that of the levels of a JSON text.
func depth(text []byte) int { return bytes.Count(text, []byte("[")) + bytes.Count(text, []byte("{")) }

// FuzzAppendEvent checks that each frame is one JSON object whose members are the relay's, and that the client gets the
// text byte for byte.
func FuzzAppendEvent(f *testing.F) {
	for _, text := range jsonTexts {
		f.Add("job_events-42", []byte(text), int64(1), uint64(2), uint16(0))
	}
	f.Add("\"},{\xff", []byte(`"`), int64(-1), uint64(0), uint16(3))
	f.Fuzz(func(t *testing.T, group string, text []byte, micros int64, mark uint64, part uint16) {
		if !utf8.Valid(text) { // the engine drops such events
			return
		}
		ev := relay.Event{Group: group, Position: relay.Position{Micros: micros, Mark: mark, Part: part}}
		frame := (Protocol{}).AppendEvent(nil, &ev, text)
		dec := json.NewDecoder(bytes.NewReader(frame))
		var members map[string]json.RawMessage
		if err := dec.Decode(&members); err != nil || dec.More() || !bytes.HasPrefix(frame, []byte(`{"type":"event","group":"`)) {
			t.Fatalf("%q: %v", frame, err)
		}
		event, isJSON := members["event"]
		var plain string
		if err := json.Unmarshal(members["text"], &plain); err != nil != isJSON {
			t.Fatalf("%q: %v", frame, err)
		}
		if isJSON && !bytes.HasSuffix(frame, append(append([]byte(`,"event":`), text...), '}')) || !isJSON && plain != string(text) {
			t.Errorf("%q became %q, %q", text, event, plain)
		}
		var token string
		_ = json.Unmarshal(members["position"], &token)
		if p, err := relay.ParsePosition(token); p != ev.Position || err != nil && !ev.Position.IsZero() {
			t.Errorf("position %v, want %v: %v", p, ev.Position, err)
		}
		for name := range members {
			if !strings.Contains(" type group position time counter event text ", " "+name+" ") {
				t.Errorf("%q has the member %q", frame, name)
			}
		}
	})
}

func BenchmarkAppendEvent(b *testing.B) {
	text := []byte(`{"id": 1, "counter": 117, "stdout": "` + strings.Repeat(`ok: [host] \u001b[0;32m`, 80) + `", "event_data": {"a": [1, 2]}}`)
	ev := relay.Event{Group: "job_events-42", Position: position}
	var buffer []byte
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	b.Run("frame", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			buffer = (Protocol{}).AppendEvent(buffer[:0], &ev, text)
		}
	})
	b.Run("encoding/json", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			if !json.Valid(text) {
				b.Fatal("not valid")
			}
		}
	})
}
