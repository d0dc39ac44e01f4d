package caddymodule

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
			grant emit kv tick 250ms
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
		 "on_error": "drop", "grant": ["emit", "kv", "tick"], "tick": 250000000, "memory": 8388608, "fuel": 5000, "fuel_per_byte": 0, "instances": 2, "max_result": 65536, "json": true,
		 "kv": 2097152, "max_failures": 3, "cooldown": 10000000000, "samples": "./samples.ndjson"},
		{"name": "next", "file": "./next.wasm", "shadow": true, "shadow_of": "redact", "timeout": 5000000}]}`)
}

func TestPluginCaddyfileFaults(t *testing.T) {
	pass := pluginFile(t, "pass")
	for lines, want := range map[string]string{
		"plugin":         "a name and a file",
		"plugin a":       "a name and a file",
		"plugin a b c":   "a name and a file",
		"plugin_key a":   "needs a name and a public key",
		"plugin_key a b": "not base64",
		"plugin_key a MCowBQYDK2VwAyEAHMPRhqeKXjcJFHkBHpkbjMcUyNcdw0sVqFf0Vr9SRRQ=\nplugin a " + pass + " {\ngroups *\n}":         "is not signed",
		"plugin_key a MCowBQYDK2VwAyEAHMPRhqeKXjcJFHkBHpkbjMcUyNcdw0sVqFf0Vr9SRRQ=\nplugin a " + pass + " {\ngroups *\nkeys b\n}": "unknown key \"b\"",
		"plugin a oci://registry.example.com/a:1 {\ngroups *\n}":                                                                  "has no digest",
		"plugin a " + pass:                                                           "no groups configured",
		"plugin a " + pass + " {\ngroups\n}":                                         "groups takes at least one value",
		"plugin a " + pass + " {\ngroups *\ncolour red\n}":                           `no setting "colour"`,
		"plugin a " + pass + " {\ngroups *\nfuel lots\n}":                            "fuel: ",
		"plugin a " + pass + " {\ngroups *\nconfig {\"a\": 1}\n}":                    "",
		"plugin a " + pass + " {\ngroups *\ntimeout 1us\n}":                          "invalid timeout 1µs; use 1ms to 1h0m0s",
		"plugin a " + pass + " {\ngroups *\nmemory 1KiB\n}":                          "invalid memory 1024",
		"plugin a " + pass + " {\ngroups *\ngrant root\n}":                           "use emit, metrics, kv, clock, tick, shared, alarms or fetch",
		"plugin a " + pass + " {\ngroups *\ngrant kv tick often\n}":                  `invalid interval "often"`,
		"plugin a " + pass + " {\ngroups *\ngrant tick 1ms\n}":                       "invalid tick 1ms; use 10ms to 1h",
		"plugin a " + pluginFile(t, "ticker") + " {\ngroups *\ngrant emit\n}":        "add 'grant tick 1s'",
		"plugin a " + pass + " {\ngroups *\non_error explode\n}":                     "use withhold, pass, drop or last_good",
		"plugin a " + pass + " {\nshadow b\n}":                                       "which is not a plugin with effect",
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
