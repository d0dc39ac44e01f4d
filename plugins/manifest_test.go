package plugins

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/plugins/internal/wasmfile"
)

func withManifest(t testing.TB, module, manifest string) []byte {
	t.Helper()
	wasm, err := EmbedManifest(fixture(t, module), []byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

func TestParseManifest(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"everything": {`{"name": "redact", "version": "2.1", "abi": "1.1", "description": "Masks secrets.", "grants": ["kv"],
			"config_schema": {"type": "object"}, "homepage": "unknown members are ignored"}`, ""},
		"nothing":         {`{}`, ""},
		"unknown grant":   {`{"grants": ["root"]}`, `unknown grant "root"`},
		"terminal codes":  {`{"name": "a\u001b[2J"}`, "name is not a line"},
		"two lines":       {`{"description": "a\nb"}`, "description is not a line"},
		"long version":    {`{"version": "` + strings.Repeat("1", 65) + `"}`, "version is not a line of at most 64"},
		"keyword":         {`{"config_schema": {"$ref": "https://example.com"}}`, `unsupported keyword "$ref"`},
		"tick":            {`{"tick": "often"}`, "not a duration"},
		"not JSON":        {`name: redact`, "not valid"},
		"too long":        {`{"x": "` + strings.Repeat("x", maxManifest) + `"}`, "more than 65536"},
		"not UTF-8":       {"{\"name\": \"\xff\"}", "not UTF-8"},
		"list":            {`["kv"]`, "not valid"},
		"schema is false": {`{"config_schema": false}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseManifest([]byte(c.text))
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestInspect(t *testing.T) {
	wasm := withManifest(t, "actor", `{"name": "actor", "version": "3", "grants": ["emit"]}`)
	in, err := Inspect(wasm)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(in.Grants)
	if in.Manifest.Name != "actor" || in.Manifest.Version != "3" || in.Hash != Hash(wasm) || in.Size != len(wasm) ||
		in.ABI != "1.2" || !slices.Contains(in.Hooks, "on_event") || !slices.Contains(in.Imports, "ev1.emit") ||
		!slices.Contains(in.Grants, GrantEmit) || in.Unknown != nil {
		t.Errorf("got %+v", in)
	}
	if in, err = Inspect(fixture(t, "pass")); err != nil || in.Manifest != nil {
		t.Errorf("a module without a manifest: %+v, %v", in, err)
	}
	twice := append(wasm, customSection(ManifestSection, `{}`)...)
	if _, err = Inspect(twice); err == nil || !strings.Contains(err.Error(), "two manifests") {
		t.Errorf("two manifests: %v", err)
	}
}

// customSection returns a custom section of less than 128 bytes.
func customSection(name, data string) []byte {
	return append([]byte{0, byte(1 + len(name) + len(data)), byte(len(name))}, name+data...)
}

// The manifest is checked before a module is live, although the metering rewriter drops custom sections.
func TestManifestIsChecked(t *testing.T) {
	const schema = `"config_schema": {"type": "object", "required": ["token"], "properties": {"token": {"type": "string"}}}`
	for name, c := range map[string]struct {
		manifest, config string
		grants           []Grant
		want             string
	}{
		"fits":    {`{"grants": ["kv"], ` + schema + `}`, `{"token": "hunter2"}`, []Grant{GrantKV}, ""},
		"grants":  {`{"grants": ["kv", "clock"]}`, "", []Grant{GrantKV}, "add 'grant clock' to the plugin's block"},
		"config":  {`{` + schema + `}`, `{"token": 12345678}`, nil, "config.token is an integer, must be string"},
		"missing": {`{` + schema + `}`, "", nil, "config is null, must be object"},
		"abi":     {`{"abi": "2.0"}`, "", nil, "asks for plugin ABI 2.0"},
		"no ABI":  {`{"abi": "1.x"}`, "", nil, "asks for plugin ABI 1.x, this relay has 1.3; build with"},
		"minor":   {`{"abi": "1.7"}`, "", nil, "asks for plugin ABI 1.7, this relay has 1.3; upgrade the relay"},
		"older":   {`{"abi": "1.0"}`, "", nil, ""},
		"current": {`{"abi": "1.2"}`, "", nil, ""},
		"major":   {`{"abi": "1"}`, "", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := New(Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			spec := Spec{Name: "p", Wasm: withManifest(t, "pass", c.manifest), Grants: c.grants}
			if c.config != "" {
				spec.Config = json.RawMessage(c.config)
			}
			err = p.Check(context.Background(), spec)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "12345678") {
				t.Errorf("the error shows the configuration: %v", err)
			}
		})
	}
}

// An invalid manifest that no tool checked rejects the module.
func TestInvalidManifestRejectsModule(t *testing.T) {
	wasm, err := wasmfile.SetCustom(fixture(t, "pass"), ManifestSection, []byte(`{"grants": "kv"}`))
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Check(context.Background(), Spec{Name: "p", Wasm: wasm}); err == nil ||
		!strings.Contains(err.Error(), "manifest is not valid") {
		t.Errorf("got %v", err)
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"name": "a", "grants": ["kv"], "tick": "1s", "config_schema": {"type": "object"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := ParseManifest(text)
		if err != nil {
			return
		}
		if _, err := json.Marshal(m); err != nil {
			t.Fatalf("a valid manifest cannot be shown: %v", err)
		}
	})
}

// An unknown function names the ABI version that the module needs, if the manifest says it.
func TestUnknownImportsNameTheABI(t *testing.T) {
	p := pipeline(t, Options{})
	for manifest, want := range map[string]string{
		"": "ev1.read_file, which this relay (plugin ABI 1.3) does not have; build with the SDK of this version",
		`{"abi": "1.4"}`: "ev1.read_file, which this relay (plugin ABI 1.3) does not have; " +
			"the module's manifest asks for ABI 1.4: upgrade the relay, or build with an older SDK",
	} {
		wasm := fixture(t, "hostile/import_unknown")
		if manifest != "" {
			wasm = withManifest(t, "hostile/import_unknown", manifest)
		}
		err := p.Check(context.Background(), Spec{Name: "p", Wasm: wasm})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("manifest %q: %v, want %q", manifest, err, want)
		}
	}
}

func TestGrantLines(t *testing.T) {
	m := &Manifest{Tick: "5s"}
	for want, grants := range map[string][]Grant{
		"'grant kv clock'":                    {GrantKV, GrantClock},
		"'grant tick 5s'":                     {GrantTick},
		"'grant emit kv' and 'grant tick 5s'": {GrantEmit, GrantTick, GrantKV},
	} {
		if got := m.GrantLines(grants); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if got := new(Manifest).GrantLines([]Grant{GrantTick}); got != "'grant tick 1s'" {
		t.Errorf("got %s", got)
	}
}
