package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
	"github.com/edgerelay/edgerelay/plugins"
)

// tags checks which version of the tagger a relay runs, by an event.
func (s *stage) tags(t *testing.T, c *wstest.Client, want string) {
	t.Helper()
	s.emitter.Send(peers.Event{Group: "tags-1", Text: `{"n": 0}`})
	expect(t, c, fmt.Sprintf(`{"%s":true,"n": 0}`, want))
}

// A reload keeps instances whose bytes and settings are the same, swaps the others, and is refused as a whole if a
// module is bad.
func TestPluginReload(t *testing.T) {
	s := newStage(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "tag.wasm")
	write(t, file, tagger(t, "one1"))
	tag, actor := plugin("tag", file, "groups tags-*"), plugin("actor", guest(t, "actor"), "groups jobs-*",
		"grant emit kv metrics clock")
	r := peers.StartRelay(t, s.withPlugins(tag, actor))
	c := subscriber(t, r.URL, s.logins[peers.Alice], "tags-1", "jobs-summary")
	s.tags(t, c, "one1")
	s.emitter.Send(peers.Event{Group: "jobs-summary", Text: `{"do": "calls"}`},
		peers.Event{Group: "jobs-summary", Text: `{"do": "calls"}`})
	expect(t, c, "1", "2") // counted in the instance's memory

	load := func(file string) {
		t.Helper()
		if err := r.Load(file); err != nil {
			t.Fatal(err)
		}
	}
	before := pluginRowOf(t, r, "tag").Loaded
	load(s.withPlugins(tag, plugin("actor", guest(t, "actor"), "groups jobs-*", "grant emit kv metrics clock",
		"on_error drop")))
	s.emitter.Send(peers.Event{Group: "jobs-summary", Text: `{"do": "calls"}`})
	expect(t, c, "3")
	if after := pluginRowOf(t, r, "tag").Loaded; !after.Equal(before) {
		t.Error("a plugin was loaded again although nothing of it changed")
	}

	// Bad modules: each is refused with what is wrong, and everything goes on as before.
	bad := filepath.Join(dir, "bad.wasm")
	write(t, bad, []byte("this is no module"))
	for block, want := range map[string]string{
		plugin("tag", bad, "groups tags-*"):                                  "plugin tag",
		plugin("tag", guest(t, "hostile/exports_missing"), "groups tags-*"):  "export",
		plugin("actor", guest(t, "actor"), "groups jobs-*"):                  `add 'grant emit' to the plugin's block`,
		plugin("tag", filepath.Join(dir, "not-there.wasm"), "groups tags-*"): "no such file",
		plugin("tag", file): "no groups configured",
		plugin("tag", file, "groups tags-*",
			"on_error maybe"): "withhold, pass, drop or last_good",
		plugin("tag", file, "groups tags-*", "config nonsense"):                         "config: invalid JSON",
		plugin("tag", file, "groups tags-*", "colour red"):                              `no setting \"colour\"`,
		plugin("tag", file, "groups tags-*", "timeout 5us"):                             "invalid timeout",
		plugin("tag", file, "groups tags-*") + "\n" + plugin("tag", file, "groups x-*"): "twice",
	} {
		err := r.Load(s.withPlugins(block))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\nwas answered by %v, want %q in it", block, err, want)
		}
	}
	s.tags(t, c, "one1")
	s.emitter.Send(peers.Event{Group: "jobs-summary", Text: `{"do": "calls"}`})
	expect(t, c, "4")

	load(s.withPlugins(plugin("tag", file, "groups tags-*", "config `{\"a\": 1}`")))
	if after := pluginRowOf(t, r, "tag").Loaded; after.Equal(before) {
		t.Error("a plugin with another config was not loaded again")
	}
	s.tags(t, c, "one1")
	s.emitter.Send(peers.Event{Group: "jobs-summary", Text: `{"do": "drop"}`})
	expect(t, c, `{"do": "drop"}`) // the actor is gone

	load(s.relayFile())
	s.emitter.Send(peers.Event{Group: "tags-1", Text: `{"n": 0}`})
	expect(t, c, `{"n": 0}`)
}

// A file that changes on disk is picked up, whole; a bad one is refused and the old one goes on.
func TestPluginFile(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	file := filepath.Join(t.TempDir(), "tag.wasm")
	write(t, file, tagger(t, "one1"))
	r := peers.StartRelay(t, s.withPlugins(plugin("tag", file, "groups tags-*")))
	c := subscriber(t, r.URL, s.logins[peers.Alice], "tags-1")
	s.tags(t, c, "one1")
	runs := func(word string) func() error {
		return func() error {
			if row := pluginRowOf(t, r, "tag"); row.Hash != plugins.Hash(tagger(t, word)) {
				return fmt.Errorf("%.12s runs", row.Hash)
			}
			return nil
		}
	}
	write(t, file, tagger(t, "two2"))
	testkit.Eventually(t, "the new file runs", runs("two2"))
	s.tags(t, c, "two2")

	write(t, file, tagger(t, "tre3")[:100])
	testkit.Eventually(t, "half a file is refused", func() error {
		if row := pluginRowOf(t, r, "tag"); row.Refused == "" {
			return fmt.Errorf("not yet: %.12s runs", row.Hash)
		}
		return runs("two2")()
	})
	s.tags(t, c, "two2")
	if health := fetch(t, r.Admin+"/edgerelay/health"); !strings.Contains(health, `"refused":"plugin tag`) {
		t.Errorf("health says nothing of it: %s", health)
	}
	write(t, file, tagger(t, "four"))
	testkit.Eventually(t, "the mended file runs", runs("four"))
	s.tags(t, c, "four")
}

// What is deployed to one node runs on every node of the storage and after a restart, until it is rolled back.
func TestPluginDeploy(t *testing.T) {
	s := newStage(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "tag.wasm")
	write(t, file, tagger(t, "one1"))
	caddyfile := strings.Replace(s.withPlugins(plugin("tag", file, "groups tags-*")),
		"persist_config off", "persist_config off\nstorage file_system "+filepath.Join(dir, "shared"), 1)
	one, two := peers.StartRelay(t, caddyfile), peers.StartRelay(t, caddyfile)
	login := s.logins[peers.Alice]
	onOne, onTwo := subscriber(t, one.URL, login, "tags-1"), subscriber(t, two.URL, login, "tags-1")
	both := func(word string) {
		t.Helper()
		for _, r := range []*peers.Relay{one, two} {
			testkit.Eventually(t, "both nodes run "+word, func() error {
				if row := pluginRowOf(t, r, "tag"); row.Hash != plugins.Hash(tagger(t, word)) {
					return fmt.Errorf("%.12s runs", row.Hash)
				}
				return nil
			})
		}
		s.emitter.Send(peers.Event{Group: "tags-1", Text: `{"n": 0}`})
		for _, c := range []*wstest.Client{onOne, onTwo} {
			expect(t, c, fmt.Sprintf(`{"%s":true,"n": 0}`, word))
		}
	}
	command := func(r *peers.Relay, args ...string) string {
		t.Helper()
		args = append([]string{"edgerelay", "plugin"}, args...)
		out, err := r.Command(append(args, "--address", strings.TrimPrefix(r.Admin, "http://"))...).CombinedOutput()
		if err != nil {
			t.Fatalf("caddy %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	both("one1")

	if code, body := pluginCall(t, one, http.MethodPost, "tag/rollback", nil); code != http.StatusConflict {
		t.Errorf("a rollback to nothing: %d %s", code, body)
	}
	if code, body := pluginCall(t, one, http.MethodPut, "tag", tagger(t, "two2")); code != http.StatusOK {
		t.Fatalf("PUT: %d %s", code, body)
	}
	both("two2")

	for name, bad := range map[string][]byte{
		"no module": []byte("nonsense"),
		"no hook":   guestBytes(t, "hostile/exports_missing"), "nothing": nil,
	} {
		if code, body := pluginCall(t, one, http.MethodPut, "tag", bad); code != http.StatusUnprocessableEntity ||
			!strings.Contains(body, "plugin tag") {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
	if code, body := pluginCall(t, one, http.MethodPut, "other", tagger(t, "two2")); code != http.StatusNotFound {
		t.Errorf("an unknown plugin: %d %s", code, body)
	}
	both("two2")

	third := filepath.Join(dir, "third.wasm")
	write(t, third, tagger(t, "tre3"))
	if out := command(two, "deploy", "tag", third); !strings.Contains(out,
		"tag: module "+plugins.Hash(tagger(t, "tre3"))[:12]+" is active") {
		t.Errorf("deploy says %q", out)
	}
	both("tre3")
	command(two, "rollback", "tag")
	both("two2")
	command(one, "rollback", "tag")
	both("tre3")

	three := peers.StartRelay(t, caddyfile)
	row := pluginRowOf(t, three, "tag")
	if row.Hash != plugins.Hash(tagger(t, "tre3")) || row.From != "deploy" ||
		row.Previous != plugins.Hash(tagger(t, "two2")) {
		t.Errorf("a new node runs %.12s from %s, with %.12s before", row.Hash, row.From, row.Previous)
	}
	// The storage keeps the modules of the history.
	kept, err := filepath.Glob(filepath.Join(dir, "shared", "edgerelay", "plugins", "tag", "*.wasm"))
	if err != nil || len(kept) != 3 {
		t.Errorf("the storage keeps %q, %v", kept, err)
	}
	for _, r := range []*peers.Relay{one, two} {
		if out := command(r, "list"); !strings.Contains(out, "deploy") {
			t.Errorf("list says %s", out)
		}
	}
}

func write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
