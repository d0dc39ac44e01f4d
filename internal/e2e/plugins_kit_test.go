package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
	"github.com/edgerelay/edgerelay/plugins"
)

// guest returns the path of a fixture of package plugins.
func guest(t testing.TB, name string) string {
	return filepath.Join(peers.Root(t), "plugins", "testdata", name+".wasm")
}

func guestBytes(t testing.TB, name string) []byte {
	t.Helper()
	wasm, err := os.ReadFile(guest(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

// tagger returns the filter fixture, which begins events of groups t… with {"seen":true,, with another word for seen.
func tagger(t testing.TB, word string) []byte {
	t.Helper()
	wasm := guestBytes(t, "filter")
	if len(word) != len("seen") || bytes.Count(wasm, []byte(`{"seen":true,`)) != 1 {
		t.Fatalf("the fixture has no place for the word %q", word)
	}
	return bytes.Replace(wasm, []byte("seen"), []byte(word), 1)
}

// withPlugins adds plugin blocks to the relay's Caddyfile.
func (s *stage) withPlugins(blocks ...string) string {
	return strings.Replace(s.relayFile(), "auth awx", strings.Join(blocks, "\n")+"\nauth awx", 1)
}

func plugin(name, file string, settings ...string) string {
	return fmt.Sprintf("plugin %s %s {\n%s\n}", name, file, strings.Join(settings, "\n"))
}

// pluginRow is a plugin as the admin API shows it.
type pluginRow struct {
	plugins.Health
	From     string `json:"from"`
	Previous string `json:"previous"`
	Refused  string `json:"refused"`
}

func pluginRowOf(t testing.TB, r *peers.Relay, name string) pluginRow {
	t.Helper()
	answer := fetch(t, r.Admin+"/edgerelay/plugins")
	var rows []pluginRow
	if err := json.Unmarshal([]byte(answer), &rows); err != nil {
		t.Fatalf("%s: %v", answer, err)
	}
	for _, row := range rows {
		if row.Name == name {
			return row
		}
	}
	t.Fatalf("plugin %s is not among %d", name, len(rows))
	return pluginRow{}
}

// pluginCall makes a request to the admin API's plugins and returns the status and body.
func pluginCall(t testing.TB, r *peers.Relay, method, path string, body []byte) (int, string) {
	t.Helper()
	return call(t, method, r.Admin+"/edgerelay/plugins/"+path, body)
}

// figures are the relay's metrics of events, for a failure's message.
func figures(t testing.TB, r *peers.Relay) string {
	var list []string
	for line := range strings.Lines(fetch(t, r.Admin+"/metrics")) {
		if strings.HasPrefix(line, "edgerelay_") {
			list = append(list, line)
		}
	}
	return strings.Join(list, "")
}

func expect(t testing.TB, c *wstest.Client, texts ...string) {
	t.Helper()
	if err := expectTexts(c, texts); err != nil {
		t.Fatal(err)
	}
}
