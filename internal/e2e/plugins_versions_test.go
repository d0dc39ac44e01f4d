package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/plugins"
)

// TestPluginVersions: file times have no effect, a restart decides like the running node, and a deployment can be taken
// back. The configuration's secrets are never shown.
func TestPluginVersions(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "tag.wasm")
	replace := func(word string) {
		t.Helper()
		write(t, file+".new", tagger(t, word))
		at := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC) // like the file of an image
		if err := os.Chtimes(file+".new", at, at); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	replace("one1")
	secret := filepath.Join(dir, "secret")
	write(t, secret, []byte("hunter2\n"))
	caddyfile := strings.Replace(s.withPlugins(plugin("tag", file, "groups tags-*",
		"config `{\"token\": \"{file."+secret+"}\"}`")), "persist_config off", "", 1)
	r := peers.StartRelay(t, caddyfile)
	runs := func(word string) {
		t.Helper()
		testkit.Eventually(t, word+" runs", func() error {
			if row := pluginRowOf(t, r, "tag"); row.Hash != plugins.Hash(tagger(t, word)) {
				return fmt.Errorf("%.12s runs", row.Hash)
			}
			return nil
		})
	}
	restart := func() {
		t.Helper()
		if err := r.Stop(t, 20*time.Second); err != nil {
			t.Fatal(err)
		}
		r.Restart(caddyfile)
	}
	runs("one1")
	if code, body := pluginCall(t, r, http.MethodPut, "tag?by=alice&message=emergency", tagger(t, "two2")); code != http.StatusOK {
		t.Fatalf("PUT: %d %s", code, body)
	}
	replace("tre3")
	runs("tre3")
	restart()
	runs("tre3")

	if code, body := pluginCall(t, r, http.MethodPost, "tag/rollback?by=bob", nil); code != http.StatusOK {
		t.Fatalf("rollback: %d %s", code, body)
	}
	runs("two2")
	restart()
	runs("two2")
	if code, body := pluginCall(t, r, http.MethodDelete, "tag/deployment", nil); code != http.StatusOK {
		t.Fatalf("DELETE: %d %s", code, body)
	}
	runs("tre3")
	restart()
	runs("tre3")

	var history []struct {
		Version             int
		By, Message, Origin string
	}
	text := fetch(t, r.Admin+"/edgerelay/plugins/tag/history")
	if err := json.Unmarshal([]byte(text), &history); err != nil || len(history) != 5 ||
		history[3].By != "alice" || history[3].Message != "emergency" || history[1].By != "bob" ||
		history[0].Origin != "undeploy" || history[0].Version != 5 {
		t.Errorf("history: %s, %v", text, err)
	}
	for _, path := range []string{"/edgerelay/plugins", "/edgerelay/plugins/tag/history", "/config/", "/edgerelay/plugins/tag/logs"} {
		if body := fetch(t, r.Admin+path); strings.Contains(body, "hunter2") || path == "/config/" && !strings.Contains(body, "{file.") {
			t.Errorf("%s shows %s", path, body)
		}
	}
	_ = filepath.WalkDir(r.Command().Dir, func(path string, _ os.DirEntry, _ error) error {
		if b, err := os.ReadFile(path); err == nil && path != secret && strings.Contains(string(b), "hunter2") {
			t.Errorf("%s has the secret", path)
		}
		return nil
	})
}
