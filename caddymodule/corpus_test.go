package caddymodule

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// corpusSecret is the value of the corpus's placeholder: valid as any key and password.
const corpusSecret = "c29tZS1zZWNyZXQtb2YtdGhlLWNvcnB1cy0zMi1ieXQ="

// corpus lists the configurations of all released versions, and of the next one: testdata/v*/*.caddyfile, and the JSON
// that the version itself made of each.
func corpus(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "v*", "*.caddyfile"))
	if err != nil || len(files) < 15 {
		t.Fatalf("%d configurations, %v", len(files), err)
	}
	return files
}

// readCorpus reads a file of the corpus. @PLUGINS@ is the folder of compiled plugins.
func readCorpus(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	folder, err := filepath.Abs(filepath.Join("..", "plugins", "testdata"))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.ReplaceAll(text, []byte("@PLUGINS@"), []byte(folder))
}

// adaptCorpus converts a Caddyfile of the corpus to JSON.
func adaptCorpus(t *testing.T, name string) []byte {
	t.Helper()
	out, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(readCorpus(t, name), map[string]any{"filename": name})
	if err != nil {
		t.Fatalf("this version refuses a Caddyfile of an earlier one: %v", err)
	}
	return out
}

// Every configuration that an earlier version accepted is accepted: each Caddyfile, and the JSON that the earlier
// version made of it. A setting that has to go is refused with the line to write: settings.Replacement, and the file of
// the corpus moves to a test of that error.
// EDGERELAY_WRITE_CORPUS=1 writes the JSON of new Caddyfiles; it never changes existing JSON.
func TestConfigurationsOfEarlierVersionsAreAccepted(t *testing.T) {
	t.Setenv("EDGERELAY_CORPUS", corpusSecret)
	t.Setenv("EDGERELAY_HISTORY_KEY", corpusSecret)
	for _, name := range corpus(t) {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".caddyfile"), func(t *testing.T) {
			validateCorpus(t, "Caddyfile", adaptCorpus(t, name))
			asJSON := strings.TrimSuffix(name, "caddyfile") + "json"
			if _, err := os.Stat(asJSON); err != nil && os.Getenv("EDGERELAY_WRITE_CORPUS") != "" {
				writeCorpus(t, asJSON, adaptCorpus(t, name))
			}
			validateCorpus(t, "JSON", readCorpus(t, asJSON))
		})
	}
}

// validateCorpus loads a configuration without running it.
func validateCorpus(t *testing.T, format string, text []byte) {
	t.Helper()
	var config caddy.Config
	if err := caddy.StrictUnmarshalJSON(text, &config); err != nil {
		t.Fatalf("%s: %v", format, err)
	}
	if err := caddy.Validate(&config); err != nil {
		t.Errorf("%s of an earlier version is refused: %v", format, err)
	}
}

// writeCorpus writes the JSON of a Caddyfile, with the placeholder for the folder of plugins.
func writeCorpus(t *testing.T, name string, text []byte) {
	t.Helper()
	folder, _ := filepath.Abs(filepath.Join("..", "plugins", "testdata"))
	var indented bytes.Buffer
	if err := json.Indent(&indented, bytes.ReplaceAll(text, []byte(folder), []byte("@PLUGINS@")), "", "\t"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, append(indented.Bytes(), '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// notInCorpus are settings that need files or services which the corpus cannot name, and their reason.
var notInCorpus = map[string]string{
	"ca": "a file", "cert": "a file", "key_file": "a file", "tls_ca": "a file", "samples": "a file", "plugin_keys": "signed modules",
	"keys": "signed modules", "database": "numbers are compared elsewhere",
}

// A new setting comes with a configuration in the newest folder of the corpus, so that later versions accept it.
func TestCorpusHasEverySetting(t *testing.T) {
	settings := map[string]string{}
	for _, id := range caddy.Modules() {
		if id == "edgerelay" || strings.HasPrefix(id, "edgerelay.") || strings.HasPrefix(id, "http.handlers.edgerelay") ||
			id == "http.reverse_proxy.transport.uwsgi" {
			info, err := caddy.GetModule(id)
			if err != nil {
				t.Fatal(err)
			}
			allSettings(reflect.TypeOf(info.New()), map[reflect.Type]bool{}, settings)
		}
	}
	used := map[string]bool{}
	for _, name := range corpus(t) {
		var value any
		if err := json.Unmarshal(readCorpus(t, strings.TrimSuffix(name, "caddyfile")+"json"), &value); err != nil {
			t.Fatal(err)
		}
		collectKeys(value, used)
	}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if !used[name] && notInCorpus[name] == "" {
			t.Errorf("no configuration of the corpus uses %q (%s)", name, settings[name])
		}
	}
}

// allSettings collects the JSON names of a type's settings.
func allSettings(t reflect.Type, seen map[reflect.Type]bool, settings map[string]string) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || seen[t] {
		return
	}
	seen[t] = true
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous {
			allSettings(f.Type, seen, settings)
			continue
		}
		if name == "" || name == "-" || !f.IsExported() {
			continue
		}
		settings[name] = t.String() + "." + f.Name
		allSettings(f.Type, seen, settings)
	}
}

func collectKeys(value any, keys map[string]bool) {
	switch value := value.(type) {
	case []any:
		for _, v := range value {
			collectKeys(v, keys)
		}
	case map[string]any:
		for key, v := range value {
			keys[key] = true
			collectKeys(v, keys)
		}
	}
}
