package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/plugins"
)

// Each line of events is run, and compared with its expectations.
func TestPluginTest(t *testing.T) {
	wasm, err := os.ReadFile(filepath.Join("..", "..", "plugins", "testdata", "actor.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	spec := plugins.Spec{Name: "test", Wasm: wasm, Grants: plugins.Grants}
	run := func(events string) (string, error) {
		var out, log bytes.Buffer
		err := tryPlugin(&out, &log, spec, strings.NewReader(events), "test")
		return out.String(), err
	}
	out, err := run(`{"do": "drop"}

{"group": "g", "payload": {"do": "replace", "with": "{\"a\": 1}"}, "verdict": "replace", "output": {"a":1}}
{"group": "g", "payload": {"do": "split"}}
{"group": "g", "payload": {"do": "pass"}, "verdict": "pass"}
{"group": "g", "payload": {"do": "route", "to": "b", "with": "1"}, "verdict": "drop", "emits": [{"group": "b", "payload": 1}]}
{"group": "g", "payload": {"do": "split"}, "emits": [{"group": "", "payload": {"part":2}}, {"group": "", "payload": {"part":3}}]}
`)
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"1  drop     test  fuel ", "3  replace  g  fuel ", "→ g  {\"a\": 1}\n", "→ g  {\"part\":2}\n",
		"→ g  classes 0x6  {\"part\":3}\n",
		"memory ", "6 events, 0 wrong; on average fuel ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	for events, want := range map[string]string{
		"":               "no events in the input",
		"nonsense":       "line 1: not JSON",
		`{"do": "loop"}`: "1 of 1 events failed",
		`{"payload": {"do": "drop"}, "verdict": "pass"}` + "\n" + `{"do": "pass"}`:                      "1 of 2 events failed",
		`{"payload": {"do": "replace", "with": "2"}, "output": 1}`:                                      "1 of 1 events failed",
		`{"payload": {"do": "pass"}, "output": 1}`:                                                      "1 of 1 events failed",
		`{"payload": {"do": "pass"}, "emits": [{"group": "b", "payload": 1}]}`:                          "1 of 1 events failed",
		`{"payload": {"do": "route", "to": "c", "with": "1"}, "emits": [{"group": "b", "payload": 1}]}`: "1 of 1 events failed",
		`{"payload": 1, "group": 7}`:                                                                    "line 1: ",
	} {
		if out, err := run(events); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it\n%s", events, err, want, out)
		}
	}
}

func FuzzParseSample(f *testing.F) {
	for _, line := range []string{
		`{"do": 1}`, `{"group": "g", "payload": {}, "verdict": "pass"}`, `[]`, `{"payload": null}`,
		`{"payload": 1, "group": 2}`,
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		ev, err := parseSample(line, "test")
		if err == nil && (ev.Group == "" || len(ev.Payload) == 0) {
			t.Errorf("%q is read as group %q, payload %q", line, ev.Group, ev.Payload)
		}
	})
}
