package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
)

// Each sample is run, and compared with its expectations.
func TestPluginTest(t *testing.T) {
	wasm, err := os.ReadFile(filepath.Join("..", "..", "plugins", "testdata", "actor.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	run := func(wasm []byte, asJSON bool, events string) (string, error) {
		var out, log bytes.Buffer
		test := pluginTest{w: &out, group: "test", asJSON: asJSON}
		test.spec = plugins.Spec{Name: "test", Wasm: wasm, Grants: plugins.Grants}
		if err := test.start(t.Context(), &log); err != nil {
			t.Fatal(err)
		}
		defer test.trial.Close()
		if err := test.runFile(strings.NewReader(events)); err != nil {
			return out.String(), err
		}
		err := test.finish()
		return out.String(), err
	}
	out, err := run(wasm, false, `{"do": "drop"}

{"group": "g", "payload": {"do": "replace", "with": "{\"a\": 1}"}, "verdict": "replace", "output": {"a":1}}
{"group": "g", "payload": {"do": "split"}}
{"group": "g", "payload": {"do": "pass"}, "verdict": "pass"}
{"group": "g", "payload": {"do": "route", "to": "b", "with": "1"}, "verdict": "drop", "emits": [{"group": "b", "payload": 1}]}
{"group": "g", "payload": {"do": "split"}, "emits": [{"group": "", "payload": {"part":2}}, {"group": "", "payload": {"part":3}}]}
nonsense
{"group": "g", "user": {"do": "class"}, "want_class": 5}
{"group": "g", "user": {"do": "reason"}, "verdict": "deny"}
{"group": "g", "class": 3, "payload": {}, "output": {"for": 3}}
{"group": "g", "payload": {"do": "trap"}, "verdict": "error"}
`)
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"1  drop     test  fuel ", "3  replace  g  fuel ", "→ g  {\"a\": 1}\n", "→ g  {\"part\":2}\n",
		"→ g  classes 0x6  {\"part\":3}\n", "8  pass     test  fuel ", "→ test  nonsense\n",
		"9  allow    on_subscribe  g  class 5  fuel ", "10  deny     on_subscribe  g  fuel ", "→ denied: not yours\n",
		"11  replace  on_class class 3  g  fuel ", "→ class 3  {\"for\":3}\n", "12  error    g  fuel ",
		"memory ", "11 samples, 0 wrong; on average fuel ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	for events, want := range map[string]string{
		"":               "no samples in the input",
		`{"do": "loop"}`: "1 of 1 samples failed",
		`{"payload": {"do": "drop"}, "verdict": "pass"}` + "\n" + `{"do": "pass"}`:                      "1 of 2 samples failed",
		`{"payload": {"do": "replace", "with": "2"}, "output": 1}`:                                      "1 of 1 samples failed",
		`{"payload": {"do": "pass"}, "output": 1}`:                                                      "1 of 1 samples failed",
		`{"payload": {"do": "pass"}, "emits": [{"group": "b", "payload": 1}]}`:                          "1 of 1 samples failed",
		`{"payload": {"do": "route", "to": "c", "with": "1"}, "emits": [{"group": "b", "payload": 1}]}`: "1 of 1 samples failed",
		`{"payload": 1, "group": 7}`:                                                                    "line 1: ",
		`{"payload": 1, "verdit": "pass"}`:                                                              `unknown member "verdit"`,
	} {
		if out, err := run(wasm, false, events); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it\n%s", events, err, want, out)
		}
	}

	// Hooks without a sample are named.
	out, err = run(wasm, false, `{"do":"pass"}`)
	if err != nil || !strings.Contains(out, "no sample of on_subscribe, on_class, which the module exports, too\n") {
		t.Errorf("%v\n%s", err, out)
	}

	// Samples of a hook that the module lacks: said once.
	pass, err := os.ReadFile(filepath.Join("..", "..", "plugins", "testdata", "pass.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	out, err = run(pass, false, "1\n"+strings.Repeat(`{"class":1,"payload":1}`+"\n", 3))
	if err == nil || strings.Count(out, "does not export ev_on_class") != 1 ||
		!strings.Contains(out, "4 samples, 3 wrong, of which 3 not run; ") {
		t.Errorf("%v\n%s", err, out)
	}

	out, err = run(wasm, true, `{"group":"g","payload":{"do":"text"},"verdict":"pass"}`+"\n"+
		`{"group":"g","payload":{"do":"replace","with":"x<"}}`+"\n"+`{"user":{"do":"class"}}`)
	lines := strings.Split(out, "\n")
	if err == nil || len(lines) != 5 {
		t.Fatalf("%v\n%s", err, out)
	}
	for i, want := range []string{
		`{"line":1,"hook":"on_event","group":"g","verdict":"error","ok":false,"problem":"plugin test: ev_on_event: `,
		`"verdict":"replace","ok":true,"outputs":[{"group":"g","text":"x<","audience":18446744073709551615}],"fuel":`,
		`"hook":"on_subscribe","group":"test","verdict":"allow","ok":true,"class":5,"fuel":`,
		`{"samples":3,"wrong":1,"not_run":0,"fuel":`,
	} {
		if !strings.Contains(lines[i], want) {
			t.Errorf("line %d lacks %s:\n%s", i+1, want, lines[i])
		}
	}
}

// The flags set what the settings of the same name set.
func TestPluginSettings(t *testing.T) {
	dir := t.TempDir()
	config, wasm := filepath.Join(dir, "config.json"), filepath.Join(dir, "p.wasm")
	for name, text := range map[string]string{config: `{"a":1}`, wasm: "x"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var o pluginTestOptions
	cmd := pluginTestCommand()
	cmd.ResetFlags()
	o.addFlags(cmd)
	if err := cmd.ParseFlags([]string{
		"--config", "@" + config, "--grant", "kv,clock", "--fuel", "5", "--fuel-per-byte", "0", "--memory", "64MiB",
		"--max-result", "1KiB", "--kv", "2KiB", "--require-json", "--on-error", "pass", "--clock", "2026-01-02T03:04:05Z",
		"--timeout", "7ms", "--init-timeout", "2s",
	}); err != nil {
		t.Fatal(err)
	}
	spec, err := o.spec(wasm)
	if err != nil {
		t.Fatal(err)
	}
	want := plugins.Spec{
		Name: "test", Wasm: []byte("x"), Config: []byte(`{"a":1}`), Grants: []plugins.Grant{"kv", "clock"}, Fuel: 5,
		FuelPerByte: -1, Memory: 64 << 20, MaxResult: 1 << 10, KV: 2 << 10, JSON: true, OnError: plugins.OnErrorPass,
		Timeout: 7 * time.Millisecond, InitTimeout: 2 * time.Second, Join: []string{"*"}, Publish: []string{"*"},
	}
	if !reflect.DeepEqual(spec, want) {
		t.Errorf("%+v, want %+v", spec, want)
	}
	if at, err := o.startClock(); err != nil || at.Unix() != 1767323045 {
		t.Error(at, err)
	}
	o.memory = "much"
	if _, err := o.spec(wasm); err == nil || !strings.Contains(err.Error(), "--memory: ") {
		t.Error(err)
	}
}

// A failing tick has no event that on_error could decide about.
func TestPolicyOutcomeNamesTheEventOnlyIfThereIsOne(t *testing.T) {
	for hook, want := range map[plugins.Hook]string{
		plugins.OnEvent: "not delivered", plugins.OnClass: "not delivered", plugins.OnSubscribe: "denies",
		plugins.OnTick: "emits nothing",
	} {
		if got := policyOutcome(plugins.OnErrorWithhold, hook); !strings.Contains(got, want) {
			t.Errorf("%v: %q, want %q in it", hook, got, want)
		}
	}
}
