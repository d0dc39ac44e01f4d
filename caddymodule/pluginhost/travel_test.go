package pluginhost

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/plugins"
)

func TestSettingsTravelWithTheModule(t *testing.T) {
	s := newSite(t)
	one, two, three := module(t, "one1"), module(t, "two2"), module(t, "tre3")
	s.plugin.OnError = "pass"
	s.write(one)
	s.start()
	s.deploy(two, Change{Settings: []byte(`{"on_error": "drop", "fuel": 5000, "groups": ["h-*"], "grants": ["kv"]}`)})
	check := func() {
		t.Helper()
		if p := s.status(); p.OnError != "drop" || p.FuelLimit != 5000 || len(p.Grants) != 1 || p.Groups[0] != "h-*" {
			t.Errorf("runs with %s, %d, %q, %q", p.OnError, p.FuelLimit, p.Grants, p.Groups)
		}
	}
	check()
	s.start()
	check()
	s.deploy(three, Change{})
	if p := s.status(); p.OnError != "pass" || p.FuelLimit != plugins.DefaultFuel || p.Groups[0] != "g-*" {
		t.Errorf("the next module runs with %s, %d, %q", p.OnError, p.FuelLimit, p.Groups)
	}
	if err := s.Rollback(context.Background(), "p", Change{}); err != nil {
		t.Fatal(err)
	}
	check()
	for settings, want := range map[string]string{
		`{"file": "/etc/passwd"}`: "belongs to each node",
		`{"samples": "x"}`:        "belongs to each node",
		`{"colour": "red"}`:       "colour",
		`[]`:                      "not a JSON object",
		`{"grants": ["root"]}`:    "root",
	} {
		err := s.Deploy(context.Background(), "p", one, Change{Settings: []byte(settings)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", settings, err, want)
		}
	}
}

func TestSecretsAreResolvedOnTheNode(t *testing.T) {
	s := newSite(t)
	t.Setenv("PLUGIN_TOKEN", "hunter2")
	const schema = `{"grants": ["kv"], "config_schema": {"required": ["token"], "properties": {"token": {"enum": ["hunter2"]}}}}`
	wasm := withManifest(t, module(t, "one1"), schema)
	s.plugin.Config = json.RawMessage(`{"token": "{env.PLUGIN_TOKEN}"}`)
	s.write(wasm)
	if err := s.tryStart(); err == nil || !strings.Contains(err.Error(), "add 'grant kv'") {
		t.Fatalf("without the grant: %v", err)
	}
	s.plugin.Grants = []string{"kv"}
	s.start()
	s.deploy(withManifest(t, module(t, "two2"), schema), Change{Settings: []byte(`{"config": {"token": "{env.PLUGIN_TOKEN}"}}`)})
	for _, name := range []string{"storage", "data"} {
		_ = filepath.WalkDir(filepath.Join(s.dir, name), func(path string, e os.DirEntry, _ error) error {
			if b, err := os.ReadFile(path); err == nil && bytes.Contains(b, []byte("hunter2")) && !strings.HasSuffix(path, ".wasm") {
				t.Errorf("%s has the secret", path)
			}
			return nil
		})
	}
	err := s.Deploy(context.Background(), "p", wasm, Change{Settings: []byte(`{"config": {"token": "{env.PLUGIN_NONE}"}}`)})
	if err == nil || !strings.Contains(err.Error(), "PLUGIN_NONE") {
		t.Errorf("a missing secret: %v", err)
	}
	t.Setenv("PLUGIN_TOKEN", "swordfish")
	if err := s.tryStart(); err == nil || strings.Contains(err.Error(), "swordfish") {
		t.Errorf("another secret: %v", err)
	}
}
