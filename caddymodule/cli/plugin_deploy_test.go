package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/plugins"
)

func guestModule(t *testing.T, name, manifest string) []byte {
	t.Helper()
	wasm, err := os.ReadFile(filepath.Join("..", "..", "plugins", "testdata", name+".wasm"))
	if err == nil && manifest != "" {
		wasm, err = plugins.EmbedManifest(wasm, []byte(manifest))
	}
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

func runningPlugin(grants ...string) *pluginhost.Status {
	return &pluginhost.Status{
		Health: plugins.Health{Name: "p", Hash: strings.Repeat("ab", 32)}, From: "file",
		Module: "tagger", ModuleVersion: "1.0", Grants: grants,
	}
}

func TestDescribeDeployment(t *testing.T) {
	const manifest = `{"name": "tagger", "version": "2.0", "grants": ["kv"]}`
	for name, c := range map[string]struct {
		module, manifest, settings string
		grants                     []string
		want                       string
		err                        string
	}{
		"plain":            {"pass", "", "", nil, "p: now abababababab (tagger 1.0) from file\n", ""},
		"granted":          {"pass", manifest, "", []string{"kv"}, "(tagger 2.0), ", ""},
		"wanted are shown": {"pass", manifest, "", []string{"kv"}, "p: wants kv\n", ""},
		"manifest":         {"pass", manifest, "", nil, "p: wants kv\n", "add 'grant kv' to its block"},
		"imports":          {"actor", "", "", []string{"kv", "metrics", "clock"}, "p: wants ", "lacks emit"},
		"settings":         {"pass", manifest, `{"grant": ["kv"]}`, nil, "p: wants kv\n", ""},
		"settings in JSON": {"pass", manifest, `{"grants": ["kv"]}`, nil, "p: wants kv\n", ""},
		"fewer grants":     {"pass", manifest, `{"grant": []}`, []string{"kv"}, "", "lacks kv"},
		"not JSON":         {"pass", manifest, `grant kv`, nil, "", "reading the settings"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			err := describeDeployment(&out, runningPlugin(c.grants...), guestModule(t, c.module, c.manifest), []byte(c.settings))
			if !strings.Contains(out.String(), c.want) {
				t.Errorf("got %q, want %q in it", out.String(), c.want)
			}
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("got %v, want %q", err, c.err)
			}
		})
	}
}

func TestExpectedHash(t *testing.T) {
	now := runningPlugin()
	for expect, want := range map[string]string{
		"": "", "*": "*", now.Hash: now.Hash, now.Hash[:12]: now.Hash, strings.Repeat("0", 64): strings.Repeat("0", 64),
	} {
		if got, err := (&changeFlags{expect: expect}).expected(now); got != want || err != nil {
			t.Errorf("%q: %q, %v", expect, got, err)
		}
	}
	for expect, want := range map[string]string{"abab": "first 12 digits", "000000000000": "the current hash is " + now.Hash} {
		if _, err := (&changeFlags{expect: expect}).expected(now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", expect, err, want)
		}
	}
}

func TestConfirm(t *testing.T) {
	for answer, ok := range map[string]bool{"y\n": true, "YES\n": true, "y": true, "n\n": false, "\n": false, "": false} {
		var out strings.Builder
		err := confirm(strings.NewReader(answer), &out, "Deploy?", "not deployed")
		if (err == nil) != ok || out.String() != "Deploy? [y/N] " {
			t.Errorf("%q: %v, %q", answer, err, out.String())
		}
	}
}

func TestPrintHistory(t *testing.T) {
	var out strings.Builder
	err := printHistory(&out, []pluginhost.HistoryEntry{
		{
			Version: 3, Hash: strings.Repeat("c", 64), At: time.Now(), By: "alice\x1b[2J", Message: "why", Origin: "rollback",
			Of: 1, Forced: true, Current: true, Available: true,
		},
		{Version: 1, Hash: strings.Repeat("a", 64), Origin: "file", Module: "tagger", ModuleVersion: "1.0"},
	})
	text := out.String()
	if err != nil || strings.Contains(text, "\x1b") {
		t.Errorf("got %q, %v", text, err)
	}
	for _, want := range []string{"3*", "cccccccccccc ", "rollback to 1 (forced)", "file (module not kept)", "tagger 1.0"} {
		if !strings.Contains(text, want) {
			t.Errorf("got %q, want %q in it", text, want)
		}
	}
}

func TestEmbedManifest(t *testing.T) {
	dir := t.TempDir()
	module, manifest := filepath.Join(dir, "p.wasm"), filepath.Join(dir, "manifest.json")
	for name, b := range map[string][]byte{module: guestModule(t, "pass", ""), manifest: []byte(`{"name": "p", "version": "3"}`)} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := embedManifest(module, manifest, module); err != nil {
		t.Fatal(err)
	}
	wasm, err := os.ReadFile(module)
	if err != nil {
		t.Fatal(err)
	}
	in, err := plugins.Inspect(wasm)
	if err != nil || in.Manifest.Version != "3" {
		t.Fatalf("got %+v, %v", in, err)
	}
	var out strings.Builder
	printInspection(&out, &shippedInspection{Inspection: in})
	if !strings.Contains(out.String(), "version      3\n") || !strings.Contains(out.String(), "hooks        on_event\n") {
		t.Errorf("got %q", out.String())
	}
	if err := os.WriteFile(manifest, []byte(`{"config_schema": {"$ref": "x"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := embedManifest(module, manifest, module); err == nil {
		t.Error("an invalid manifest is embedded")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("left are %v, %v", left, err)
	}
}
