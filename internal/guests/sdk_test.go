package guests

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/plugins"
)

// probes lists the plugins that use every function of an SDK, in the same way in each language.
var probes = []string{"go", "c", "rs", "ts"}

func probe(t testing.TB, language string) []byte {
	t.Helper()
	if language == "go" {
		return BuildGo(t, filepath.Join("testdata", "probe-go"))
	}
	return committed(t, "probe-"+language)
}

// committed reads a module from testdata.
func committed(t testing.TB, name string) []byte {
	t.Helper()
	wasm, err := os.ReadFile(filepath.Join("testdata", name+".wasm"))
	if err != nil {
		t.Fatalf("%v: scripts/build-plugins.sh builds it", err)
	}
	return wasm
}

func probeSpec(wasm []byte) plugins.Spec {
	return plugins.Spec{
		Name: "probe", Wasm: wasm, Groups: []string{"*"}, Grants: plugins.Grants, Instances: 1,
		Timeout: patience,
		Config:  json.RawMessage(`{"words": ["a", "é", 3], "n": 7, "deep": {"s": "x\ny"}}`),
	}
}

// TestSDKs: every SDK gives a plugin the whole ABI.
func TestSDKs(t *testing.T) {
	for _, language := range probes {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			holdProbe(t, probe(t, language))
		})
	}
}

var long = strings.Repeat("lång", 2000)

// probeCases lists events for the probes, and the results.
var probeCases = []struct{ payload, want string }{
	{`{"do":"pass"}`, "pass"},
	{`no JSON`, "pass"},
	{`{"do":"drop"}`, "drop"},
	{`{"do":"error"}`, "failed: the plugin reported an error: it was asked for"},
	{`{"do":"replace","with":"\u00e9\ud83d\ude00"}`, "é😀"},
	{`{"do":"replace","with":""}`, ""},
	{`{"do":"replace","with":"` + long + `"}`, long},
	{` {"do":"insert" } `, ` {"do":"insert" ,"seen":true}`},
	{`{"do":"group"}`, "job_events-42"},
	{`{"do":"payload","x":"é"}`, `{"do":"payload","x":"é"}`},
	{`{"do":"text","path":"x.1.y","x":[0,{"y":"a\nb"}]}`, "a\nb"},
	{`{"do":"text","path":"x","x":[0, 1]}`, "[0, 1]"},
	{`{"do":"text","path":"a\\.b","a.b":"dot"}`, "dot"},
	{`{"do":"text","path":"x","x":"` + long + `"}`, long},
	{`{"do":"text","path":"none"}`, "none"},
	{`{"do":"is","path":"x","want":"é","x":"\u00e9"}`, "yes"},
	{`{"do":"is","path":"x","want":"","x":""}`, "yes"},
	{`{"do":"is","path":"x","want":"true","x":true}`, "yes"},
	{`{"do":"is","path":"x","want":"abc","x":"abd"}`, "no"},
	{`{"do":"is","path":"x","want":"ab","x":"abc"}`, "no"},
	{`{"do":"is","path":"x","want":"","y":""}`, "no"},
	{`{"do":"is","path":"x","want":"a","x":"` + long + `"}`, "no"},
	{`{"do":"has","path":"x","x":null}`, "yes"},
	{`{"do":"has","path":"x"}`, "no"},
	{`{"do":"int","path":"x","x":-42}`, "-42"},
	{`{"do":"int","path":"x","x":"17"}`, "17"},
	{`{"do":"int","path":"x","x":1.5}`, "-1"},
	{`{"do":"int","path":"x","x":"-"}`, "-1"},
	{`{"do":"int","path":"x"}`, "-1"},
	{`{"do":"int","path":"x","x":9223372036854775807}`, "9223372036854775807"},
	{`{"do":"int","path":"x","x":-9223372036854775808}`, "-9223372036854775808"},
	{`{"do":"int","path":"x","x":9223372036854775808}`, "-1"},
	{`{"do":"int","path":"x","x":99999999999999999999999}`, "-1"},
	{`{"do":"find","path":"x","x": {"a":"\u00e9"} }`, `{"a":"\u00e9"}`},
	{`{"do":"find","path":"x"}`, "none"},
	{`{"do":"emit","to":"alerts","with":"{}"}`, "0 + {} to alerts for ffffffffffffffff"},
	{`{"do":"emit","to":"","with":"{}"}`, "0 + {} to  for ffffffffffffffff"},
	{`{"do":"emit","to":"a b","with":"{}"}`, "-4"},
	{`{"do":"emit_for"}`, "pass + {} to  for 2"},
	{`{"do":"audience"}`, "pass for 4"},
	{`{"do":"count","name":"seen_total"}`, "yes"},
	{`{"do":"count","name":"Bad"}`, "no"},
	{`{"do":"kv_get","key":"k"}`, "none"},
	{`{"do":"kv_set","key":"k","value":"é"}`, "yes"},
	{`{"do":"kv_get","key":"k"}`, "é"},
	{`{"do":"kv_incr","key":"n"}`, "3"},
	{`{"do":"kv_incr","key":"n"}`, "6"},
	{`{"do":"kv_incr","key":"k"}`, "none"},
	{`{"do":"kv_set","key":"k","value":""}`, "yes"},
	{`{"do":"kv_get","key":"k"}`, "none"},
	{`{"do":"now"}`, "1767323045000"},
	{`{"do":"config"}`, `{"words": ["a", "é", 3], "n": 7, "deep": {"s": "x\ny"}}`},
	{`{"do":"config_text","path":"deep.s"}`, "x\ny"},
	{`{"do":"config_text","path":"deep.t"}`, "none"},
	{`{"do":"config_int","path":"n"}`, "7"},
	{`{"do":"config_int","path":"m"}`, "-1"},
	{`{"do":"config_list","path":"words"}`, "a,é,3"},
	{`{"do":"config_list","path":"n"}`, ""},
	{
		`{"do":"text","path":"x","x":"` + strings.Repeat(long, 3) + `"}`,
		strings.Repeat(long, 3),
	}, // the input buffer grows
	{`{"do":"text","path":"do"}`, "text"},
}

func holdProbe(t *testing.T, wasm []byte) {
	t.Helper()
	c := newClock()
	trial, err := plugins.Try(context.Background(), options(c), probeSpec(wasm))
	if err != nil {
		t.Fatal(err)
	}
	defer trial.Close()
	for _, k := range probeCases {
		if got := show(trial.Event(plugins.Event{Group: "job_events-42", Payload: []byte(k.payload)})); got != k.want {
			t.Errorf("%.100s: %.200q instead of %.200q", k.payload, got, k.want)
		}
	}

	p := start(t, c, probeSpec(wasm))
	for user, want := range map[string]plugins.Decision{
		`{"do":"deny"}`:   {Plugin: "probe"},
		`{"do":"reason"}`: {Plugin: "probe", Reason: "not yours"},
		`{"do":"class"}`:  {Allow: true, Class: 5},
		`null`:            {Allow: true},
	} {
		d, err := p.Subscribe(context.Background(), []byte(user), "job_events-42")
		if d.Generation = 0; err != nil || !reflect.DeepEqual(d, want) {
			t.Errorf("%s: %+v, %v instead of %+v", user, d, err, want)
		}
	}
	view := plugins.Event{Group: "job_events-42", Payload: []byte("x")}
	views := p.Process(view, nil)
	if len(views) != 1 {
		t.Fatalf("outputs are %v, want one", views)
	}
	for class, want := range []string{"x", "", "job_events-42"} {
		if out, ok, _ := p.Render(uint8(class), view, &views[0]); string(out) != want || ok != (class != 1) {
			t.Errorf("class %d: %q, %v", class, out, ok)
		}
	}

	spec := probeSpec(wasm)
	spec.Config = json.RawMessage(`{"refuse": "the config is wrong"}`)
	if err := p.Check(context.Background(), spec); err == nil || !strings.Contains(err.Error(), "the config is wrong") {
		t.Errorf("a refusal is reported as %v", err)
	}
}

// show formats a Trace: the output, the audience, and the emitted events.
func show(tr plugins.Trace) string {
	out, rest := tr.Verdict.String(), tr.Outputs
	switch tr.Verdict {
	case plugins.Failed:
		_, why, _ := strings.Cut(tr.Err.Error(), "ev_on_event: ")
		return "failed: " + why
	case plugins.Replace:
		out = string(rest[0].Payload)
	}
	if tr.Verdict != plugins.Drop {
		if a := rest[0].Audience; a != ^uint64(0) {
			out += fmt.Sprintf(" for %x", a)
		}
		rest = rest[1:]
	}
	for _, e := range rest {
		out += fmt.Sprintf(" + %s to %s for %x", e.Payload, e.Group, e.Audience)
	}
	return out
}

// CheckRebuilt runs the checks of the committed modules on rebuilt modules.
func CheckRebuilt(t *testing.T, dir string) {
	read := func(name string) []byte {
		wasm, err := os.ReadFile(filepath.Join(dir, name+".wasm"))
		if err != nil {
			t.Fatal(err)
		}
		return wasm
	}
	for _, language := range probes {
		if language != "go" {
			t.Run(language, func(t *testing.T) { holdProbe(t, read("probe-"+language)) })
		}
	}
	for _, e := range examples {
		if !e.Go {
			t.Run(e.Name, func(t *testing.T) { e.check(t, read(e.Name)) })
		}
	}
}
