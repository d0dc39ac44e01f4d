package guests

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
)

// Examples lists all plugins of examples/plugins.
var examples = []Example{
	{Name: "redact", Go: true},
	{Name: "redact-c"},
	{Name: "quiet"},
	{Name: "coalesce", Config: `{"per_second": 2}`, Grants: []string{"emit", "kv", "tick"}},
	{
		Name: "debounce", Go: true, Config: `{"key": "host", "wait_ms": 500, "max_wait_ms": 2000}`,
		Grants: []string{"clock", "emit", "tick"},
	},
	{Name: "absence", Config: `{"seconds": 60}`, Grants: []string{"clock", "emit", "tick"}},
	{Name: "enrich", Config: `{"site": "https://awx.example.com/"}`},
	{Name: "alerts", Grants: []string{"emit"}},
	{
		Name: "alert-fetch", Go: true, Grants: []string{"fetch"},
		Config: `{"webhook": "https://hooks.slack.com/services/x", "site": "https://awx.example.com"}`,
	},
	{
		Name: "alert-fetch-rs", Grants: []string{"fetch"},
		Config: `{"webhook": "https://hooks.slack.com/services/x", "site": "https://awx.example.com"}`,
	},
	{Name: "audience", Go: true, Config: `{"privileged": ["alice"], "strip": ["stdout", "event_data.res"]}`},
}

func example(t testing.TB, name string) Example {
	for _, e := range examples {
		if e.Name == name {
			return e
		}
	}
	t.Fatalf("no example %s", name)
	return Example{}
}

// TestExamples runs the golden samples of every example on the real host.
func TestExamples(t *testing.T) {
	var listed []string
	for _, e := range examples {
		listed = append(listed, e.Name)
		t.Run(e.Name, func(t *testing.T) {
			t.Parallel()
			e.check(t, e.Wasm(t))
			if _, err := os.Stat(filepath.Join(e.Dir(), "README.md")); err != nil {
				t.Error(err)
			}
		})
	}
	dirs, err := os.ReadDir(filepath.Join(Root, "examples", "plugins"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if d.IsDir() && !slices.Contains(listed, d.Name()) {
			t.Errorf("example %s is not tested", d.Name())
		}
	}
}

// TestAudience: the view of an event depends on the class of the subscriber.
func TestAudience(t *testing.T) {
	e := example(t, "audience")
	p := start(t, newClock(), e.spec(e.Wasm(t)))
	for user, class := range map[string]uint8{
		`{"username":"alice"}`: 1, `{"username":"bob"}`: 0, `{"username":"bob","is_superuser":true}`: 1,
	} {
		if d, err := p.Subscribe(
			context.Background(),
			[]byte(user),
			"job_events-42",
		); err != nil || !d.Allow ||
			d.Class != class {
			t.Errorf("%s: %+v, %v", user, d, err)
		}
	}
	out := p.Process(plugins.Event{Group: "job_events-42", Payload: []byte(`{"stdout":"secret"}`)}, nil)
	if len(out) != 1 || !out[0].PerClass || string(out[0].Payload) != `{"stdout":"secret"}` {
		t.Errorf("%+v", out)
	}
}

// TestRedactorsAgree: on random events, the redactors in C and Go return the same bytes.
func TestRedactorsAgree(t *testing.T) {
	redactor := func(name string) *plugins.Pipeline {
		e := example(t, name)
		spec := e.spec(e.Wasm(t))
		spec.JSON = false // some of the events are no JSON either
		return start(t, newClock(), spec)
	}
	inGo, inC := redactor("redact"), redactor("redact-c")
	r := rand.New(rand.NewPCG(1, 2))
	redacted := 0
	for range 5000 {
		payload := randomEvent(r)
		a, b := inGo.Process(plugins.Event{Group: "job_events-1", Payload: payload}, nil), inC.Process(plugins.Event{Group: "job_events-1", Payload: payload}, nil)
		if len(a) != 1 || len(b) != 1 || !bytes.Equal(a[0].Payload, b[0].Payload) {
			t.Fatalf("%s:\n%v %s\n%v %s", payload, a, inGo.Health()[0].LastError, b, inC.Health()[0].LastError)
		}
		if !bytes.Equal(a[0].Payload, payload) {
			redacted++
		}
	}
	for _, p := range []*plugins.Pipeline{inGo, inC} {
		if h := p.Health()[0]; h.LastError != "" {
			t.Error(h.LastError)
		}
	}
	if redacted < 1000 {
		t.Errorf("%d of the events had something to redact", redacted)
	}
}

// randomEvent nests fragments that redactors treat in a special way.
func randomEvent(r *rand.Rand) []byte {
	fragments := []string{
		"password",
		"Token",
		"secret",
		"db-",
		"--",
		"=",
		":",
		": ",
		" ",
		`"`,
		`'`,
		`\`,
		"\n",
		"\x1b[0m",
		"é",
		"bearer ",
		"hunter2",
		"://",
		"@",
		"/",
		"user",
		"-----BEGIN PRIVATE KEY-----",
		"-----END PRIVATE KEY-----",
		"********",
		"x",
	}
	text := func() (s string) {
		for range r.IntN(12) {
			s += fragments[r.IntN(len(fragments))]
		}
		return s
	}
	var value func(depth int) any
	value = func(depth int) any {
		switch n := r.IntN(8); {
		case n == 0:
			return r.IntN(2000) - 1000
		case n == 1:
			return r.IntN(2) == 0
		case n == 2:
			return nil
		case n < 5 || depth == 0:
			return text()
		case n == 5:
			return []any{value(depth - 1), value(depth - 1)}
		}
		return map[string]any{text(): value(depth - 1), text(): value(depth - 1)}
	}
	b, err := json.Marshal(map[string]any{"stdout": text(), "event_data": value(3)})
	if err != nil {
		panic(err)
	}
	if r.IntN(8) == 0 { // not even JSON
		b = b[:r.IntN(len(b))]
	}
	return b
}

// A second later, progress events pass again and report the number of dropped events.
func TestCoalesceForgetsSeconds(t *testing.T) {
	e := example(t, "coalesce")
	c := newClock()
	p := start(t, c, e.spec(e.Wasm(t)))
	step := func() string {
		out := p.Process(plugins.Event{Group: "job_events-42", Payload: []byte(`{"event":"runner_on_ok"}`)}, nil)
		if len(out) == 0 {
			return ""
		}
		return string(out[0].Payload)
	}
	plain, told := `{"event":"runner_on_ok"}`, `{"event":"runner_on_ok","coalesced":3}`
	for i, want := range []string{plain, plain, "", "", "", told, plain, ""} {
		if i == 5 {
			c.now = c.now.Add(time.Second)
		}
		if got := step(); got != want {
			t.Errorf("event %d: %q instead of %q", i, got, want)
		}
	}
}

// TestExamplesRefuseBadConfigs: invalid configurations are rejected with the reason.
func TestExamplesRefuseBadConfigs(t *testing.T) {
	for _, c := range []struct{ name, config, want string }{
		{"redact-c", `{"words": [""]}`, "a word is empty"},
		{"redact-c", `{"mask": "\""}`, "no escapes"},
		{"quiet", `{"keep_changed": 1}`, "use true or false"},
		{"coalesce", `{"per_second": 0}`, "1 or more"},
		{"enrich", `{"site": "awx"}`, "https://awx.example.com"},
		{"debounce", `{"wait_ms": 0}`, "1 or more"},
		{"absence", `{"seconds": 0}`, "1 or more"},
	} {
		e := example(t, c.name)
		spec := e.spec(e.Wasm(t))
		spec.Config = json.RawMessage(c.config)
		p := start(t, newClock())
		if err := p.Check(context.Background(), spec); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s with %s: %v", c.name, c.config, err)
		}
	}
}
