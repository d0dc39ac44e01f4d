package caddymodule

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/edgerelay/edgerelay/plugins"
)

func pluginFile(t testing.TB, name string) string {
	t.Helper()
	file, err := filepath.Abs(filepath.Join("..", "plugins", "testdata", name+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func pluginBytes(t testing.TB, name string) []byte {
	t.Helper()
	wasm, err := os.ReadFile(pluginFile(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

func TestPluginCaddyfile(t *testing.T) {
	config, err := adapt(global(`auth none
		plugin redact ./redact.wasm {
			groups job_events-* ad_hoc_command_events-*
			groups more-*
			config ` + "`{\"words\": [\"password\"]}`" + `
			on_error drop
			grant emit kv
			memory 8MiB
			fuel 5000
			fuel_per_byte 0
			instances 2
			max_result 64KiB
			json
			kv 2MiB
			max_failures 3
			cooldown 10s
			samples ./samples.ndjson
		}
		plugin next ./next.wasm {
			shadow redact
			timeout 5ms
		}`))
	if err != nil {
		t.Fatal(err)
	}
	_, app, ok := bytes.Cut(config, []byte(`"edgerelay":`))
	app, _, found := bytes.Cut(app, []byte(`,"http":`))
	if !ok || !found {
		t.Fatalf("got %s", config)
	}
	sameJSON(t, app, `{"auth": {"kind": "none"}, "plugins": [
		{"name": "redact", "file": "./redact.wasm", "groups": ["job_events-*", "ad_hoc_command_events-*", "more-*"], "config": {"words": ["password"]},
		 "on_error": "drop", "grants": ["emit", "kv"], "memory": 8388608, "fuel": 5000, "fuel_per_byte": 0, "instances": 2, "max_result": 65536, "json": true,
		 "kv": 2097152, "max_failures": 3, "cooldown": 10000000000, "samples": "./samples.ndjson"},
		{"name": "next", "file": "./next.wasm", "shadow": true, "shadow_of": "redact", "timeout": 5000000}]}`)
}

func TestPluginCaddyfileFaults(t *testing.T) {
	pass := pluginFile(t, "pass")
	for lines, want := range map[string]string{
		"plugin":                             "a name and a file",
		"plugin a":                           "a name and a file",
		"plugin a b c":                       "a name and a file",
		"plugin a " + pass:                   "it needs groups",
		"plugin a " + pass + " {\ngroups\n}": "groups needs at least one value",
		"plugin a " + pass + " {\ngroups *\ncolour red\n}":                           `no setting "colour"`,
		"plugin a " + pass + " {\ngroups *\nfuel lots\n}":                            "fuel: ",
		"plugin a " + pass + " {\ngroups *\nconfig {\"a\": 1}\n}":                    "",
		"plugin a " + pass + " {\ngroups *\nfuel 1\ntimeout 1s\n}":                   "set one of them",
		"plugin a " + pass + " {\ngroups *\nmemory 1KiB\n}":                          "memory is 1024",
		"plugin a " + pass + " {\ngroups *\ngrant root\n}":                           `no grant "root"`,
		"plugin a " + pass + " {\ngroups *\non_error explode\n}":                     "use withhold, pass, drop or last_good",
		"plugin a " + pass + " {\nshadow b\n}":                                       "which is no plugin in effect",
		"plugin a ./not-there.wasm {\ngroups *\n}":                                   "no such file",
		"plugin a {env.NOT_THERE} {\ngroups *\n}":                                    "env.NOT_THERE",
		"plugin a " + pluginFile(t, "hostile/exports_missing") + " {\ngroups *\n}":   "export",
		"plugin a " + pass + " {\ngroups *\nsamples ./not-there.ndjson\n}":           "not-there.ndjson",
		"plugin a " + pass + " {\ngroups a\n}\nplugin a " + pass + " {\ngroups b\n}": "twice",
	} {
		err := validate(global("auth none\n" + lines))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\nis answered by %v, want %q in it", lines, err, want)
		}
	}
	if err := validate(global("auth none\nplugin a " + pass + " {\ngroups *\n}")); err != nil {
		t.Error(err)
	}
}

func TestPluginSamples(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "samples.ndjson")
	check := func(samples string) error {
		if err := os.WriteFile(file, []byte(samples), 0o600); err != nil {
			t.Fatal(err)
		}
		return validate(global("auth none\nplugin a " + pluginFile(t, "filter") + " {\ngroups *\nsamples " + file + "\n}"))
	}
	if err := check(`{"group": "job", "payload": {"status": "ok"}, "verdict": "drop"}
		{"group": "tag", "payload": {"n": 1}, "verdict": "replace", "output": {"seen": true, "n": 1}}`); err != nil {
		t.Error(err)
	}
	for samples, want := range map[string]string{
		`{"group": "job", "payload": {"status": "ok"}, "verdict": "pass"}`: "verdict drop, want pass",
		`{"group": "job", "payload": {}, "verdikt": "pass"}`:               "verdikt",
		`{"group": "job", "payload": {}}{`:                                 "sample 2",
	} {
		if err := check(samples); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", samples, err, want)
		}
	}
}

func TestModuleStore(t *testing.T) {
	ctx := context.Background()
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	s := moduleStore{storage}
	if d, err := s.last(ctx, "a"); d != nil || err != nil {
		t.Fatalf("an empty storage: %v, %v", d, err)
	}
	var previous []byte
	for n := range 4 {
		wasm := fmt.Append(nil, "module ", n)
		d, err := s.deploy(ctx, "a", wasm, previous)
		if err != nil {
			t.Fatal(err)
		}
		last, err := s.last(ctx, "a")
		if err != nil || last.Hash != plugins.Hash(wasm) || !last.At.Equal(d.At) || previous != nil && last.Previous != plugins.Hash(previous) {
			t.Errorf("deployment %d: %+v, %v", n, last, err)
		}
		if got, err := s.module(ctx, "a", last.Hash); err != nil || !bytes.Equal(got, wasm) {
			t.Errorf("module %d: %q, %v", n, got, err)
		}
		previous = wasm
	}
	if keys, err := storage.List(ctx, "edgerelay/plugins/a", false); err != nil || len(keys) != 3 {
		t.Errorf("kept are %q, %v; want the record and two modules", keys, err)
	}
	if _, err := s.module(ctx, "a", plugins.Hash([]byte("module 0"))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an old module: %v", err)
	}
	for key, damage := range map[string]string{moduleKey("a", plugins.Hash(previous)): "damaged", storeKey("a", "deployment.json"): "{"} {
		if err := storage.Store(ctx, key, []byte(damage)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.module(ctx, "a", plugins.Hash(previous)); err == nil || !strings.Contains(err.Error(), "deploy again") {
		t.Errorf("a damaged module: %v", err)
	}
	if _, err := s.last(ctx, "a"); err == nil || !strings.Contains(err.Error(), "deploy again") {
		t.Errorf("a damaged record: %v", err)
	}
}

// The newer of file and deployment runs.
func TestNewerModuleRuns(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := moduleStore{&certmagic.FileStorage{Path: filepath.Join(dir, "storage")}}
	p := &runningPlugin{Plugin: &Plugin{Name: "a", file: filepath.Join(dir, "a.wasm")}}
	if err := p.load(ctx, s); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("neither file nor deployment: %v", err)
	}
	if _, err := s.deploy(ctx, "a", []byte("deployed"), []byte("before")); err != nil {
		t.Fatal(err)
	}
	runs := func(want, from string) {
		t.Helper()
		p.version = moduleVersion{}
		if err := p.load(ctx, s); err != nil || string(p.version.wasm) != want || p.version.from != from {
			t.Errorf("runs %q from %s, %v; want %q", p.version.wasm, p.version.from, err, want)
		}
	}
	runs("deployed", "deploy")
	if string(p.previous) != "before" {
		t.Errorf("a rollback would run %q", p.previous)
	}
	if err := os.WriteFile(p.Plugin.file, []byte("file"), 0o600); err != nil {
		t.Fatal(err)
	}
	for age, want := range map[time.Duration]string{time.Hour: "deployed", -time.Hour: "file"} {
		at := time.Now().Add(-age)
		if err := os.Chtimes(p.Plugin.file, at, at); err != nil {
			t.Fatal(err)
		}
		runs(want, map[string]string{"deployed": "deploy", "file": "file"}[want])
	}
}

func TestPluginTrial(t *testing.T) {
	spec := plugins.Spec{Name: "test", Wasm: pluginBytes(t, "actor"), Grants: plugins.Grants}
	run := func(events string) (string, error) {
		var out, log bytes.Buffer
		err := try(&out, &log, spec, strings.NewReader(events), "test")
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
		"1  drop     test  fuel ", "3  replace  g  fuel ", "→ g  {\"a\": 1}\n", "→ g  {\"part\":2}\n", "→ g  classes 0x6  {\"part\":3}\n",
		"memory ", "6 events, 0 wrong; on average fuel ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	for events, want := range map[string]string{
		"":               "there are no events",
		"nonsense":       "line 1: it is not JSON",
		`{"do": "loop"}`: "1 of 1 events went wrong",
		`{"payload": {"do": "drop"}, "verdict": "pass"}` + "\n" + `{"do": "pass"}`:                      "1 of 2 events went wrong",
		`{"payload": {"do": "replace", "with": "2"}, "output": 1}`:                                      "1 of 1 events went wrong",
		`{"payload": {"do": "pass"}, "output": 1}`:                                                      "1 of 1 events went wrong",
		`{"payload": {"do": "pass"}, "emits": [{"group": "b", "payload": 1}]}`:                          "1 of 1 events went wrong",
		`{"payload": {"do": "route", "to": "c", "with": "1"}, "emits": [{"group": "b", "payload": 1}]}`: "1 of 1 events went wrong",
		`{"payload": 1, "group": 7}`:                                                                    "line 1: ",
	} {
		if out, err := run(events); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it\n%s", events, err, want, out)
		}
	}
}

func FuzzParseSample(f *testing.F) {
	for _, line := range []string{`{"do": 1}`, `{"group": "g", "payload": {}, "verdict": "pass"}`, `[]`, `{"payload": null}`, `{"payload": 1, "group": 2}`} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		ev, err := parseSample(line, "test")
		if err == nil && (ev.Group == "" || len(ev.Payload) == 0) {
			t.Errorf("%q is read as group %q, payload %q", line, ev.Group, ev.Payload)
		}
	})
}
