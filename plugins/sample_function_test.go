package plugins

import (
	"context"
	"strings"
	"testing"
	"time"
)

// functionTrial tries the function of the fixtures.
func functionTrial(t *testing.T) *Trial {
	t.Helper()
	spec := functionSpec(t)
	spec.Instances = 0
	trial, err := Try(context.Background(), Options{}, spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(trial.Close)
	return trial
}

// TestFunctionSamples runs a conversation as golden samples.
func TestFunctionSamples(t *testing.T) {
	trial := functionTrial(t)
	trial.Reset(time.UnixMilli(1_700_000_000_000))
	const lines = `
{"hook":"on_connect","request":{"query":"","params":{"room":"room_1"}},"verdict":"allow","effects":[{"join":"room_1"},{"send":"welcome"}],"want_attachment":"room_1"}
{"hook":"on_message","payload":{"do":"recall"},"effects":[{"send":"room_1"}]}
{"hook":"on_message","client":"other","attachment":"room_9","payload":{"do":"recall"},"effects":[{"send":"room_9"}]}
{"hook":"on_message","payload":{"do":"publish","group":"room_1","type":"chat.message","text":"{\"a\":1}","flags":1},"effects":[{"publish":"room_1","type":"chat.message","text":{"a": 1},"others":true},{"send":0}]}
{"hook":"on_message","payload":{"do":"close","code":"4001"},"effects":[{"close":4001,"reason":"bye"},{"send":"0"}]}
{"hook":"on_message","payload":{"do":"echo","text":"hi"},"effects":[{"send":"hi"}],"verdict":"pass"}
{"hook":"on_message","payload":{"do":"set","key":"k","value":"v","ttl":"1000","context":"note\u0000room"},"effects":[{"shared_set":"k","value":"v","ttl":1000,"then":"note","context":"room"}]}
{"hook":"on_result","then":"note","context":"room","status":2,"text":"v","effects":[{"send":"note\u0000room 2 v"}]}
{"hook":"on_alarm","name":"turn","text":"x","effects":[{"publish":"alarms","text":"turnx"}]}
{"hook":"on_close","code":1001,"text":"away","effects":[{"publish":"closed","text":"away"}]}
{"hook":"on_connect","request":{"params":{},"query":"reason"},"verdict":"deny","reason":"no seats","want_status":403,"effects":[]}
{"hook":"on_event","payload":{"do":"get","key":"k"},"effects":[{"shared_get":"k"}]}
`
	samples := NewSampleReader(strings.NewReader(lines), "g")
	for range strings.Count(strings.TrimSpace(lines), "\n") + 1 {
		s, err := samples.Next()
		if err != nil {
			t.Fatal(err)
		}
		trace := trial.Run(&s)
		if err := s.Compare(&trace); err != nil {
			t.Errorf("line %d: %v; effects %s", samples.Line(), err, trace.Effects)
		}
	}
}

// TestFunctionSamplesDiffer names the difference from each kind of expectation.
func TestFunctionSamplesDiffer(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{`{"hook":"on_message","payload":{"do":"echo","text":"hi"},"effects":[{"send":"ho"}]}`, `effect 1 is {"send":"hi"}, want {"send":"ho"}`},
		{`{"hook":"on_message","payload":{"do":"echo","text":"hi"},"effects":[]}`, "1 effects, want 0"},
		{`{"hook":"on_message","payload":{"do":"echo","text":"hi"},"effects":[{"send":"hi"},{"join":"g"}]}`, "the next one is missing"},
		{`{"hook":"on_message","payload":{"do":"echo","text":"hi"},"want_attachment":"x"}`, `the attachment is "", want "x"`},
		{`{"hook":"on_connect","request":{"params":{"room":"room_1"},"query":""},"verdict":"deny"}`, "verdict allow, want deny"},
		{`{"hook":"on_connect","request":{"params":{"room":"room_1"},"query":"teapot"},"want_status":404}`, "status 418, want 404"},
	} {
		s, err := ParseSample([]byte(c.line), "g")
		if err != nil {
			t.Fatalf("%s: %v", c.line, err)
		}
		trace := functionTrial(t).Run(&s)
		if err := s.Compare(&trace); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.line, err, c.want)
		}
	}
}

func TestFunctionSamplesAreChecked(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{`{"hook":"on_message","text":"x","code":1000}`, "code is for on_close"},
		{`{"hook":"on_event","group":"g","text":"x","client":"a"}`, "are for functions"},
		{`{"hook":"on_alarm","name":"x","attachment":"y"}`, "has no client"},
		{`{"hook":"on_message","text":"x","effects":[1]}`, "use a list of objects"},
		{`{"hook":"on_connect","text":"x"}`, "gets no payload"},
	} {
		if _, err := ParseSample([]byte(c.line), "g"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.line, err, c.want)
		}
	}
}
