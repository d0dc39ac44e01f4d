package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/guests"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// large is an event with a secret at its end.
func large(size int) string {
	return `{"stdout":"` + strings.Repeat("x", size) + ` password=hunter2"}`
}

// Large events of one job come redacted, and do not switch redaction off for another.
func TestLargeEventsAreRedacted(t *testing.T) {
	s := newStage(t)
	dir := t.TempDir()
	inGo, inC := filepath.Join(dir, "redact.wasm"), filepath.Join(guests.Root, "examples", "plugins", "redact-c",
		"plugin.wasm")
	write(t, inGo, guests.BuildGo(t, filepath.Join(guests.Root, "examples", "plugins", "redact")))
	inC, err := filepath.Abs(inC)
	if err != nil {
		t.Fatal(err)
	}
	r := peers.StartRelay(t, strings.Replace(s.withPlugins(
		plugin("go", inGo, "groups jobs-go*"),
		plugin("c", inC, "groups jobs-c*"),
		plugin("small", inC, "groups jobs-small*", "memory 8MiB"),
	), "auth awx", "limits {\nqueue_per_connection 32MiB\n}\nauth awx", 1))
	for _, name := range []string{"go", "c"} {
		t.Run(name, func(t *testing.T) {
			bulky := subscriber(t, r.URL, s.logins[peers.Alice], "jobs-"+name+"1")
			other := subscriber(t, r.URL, s.logins[peers.Alice], "jobs-"+name+"2")
			for range 5 {
				publishHTTP(t, r, "jobs-"+name+"1", large(900<<10))
			}
			var want []string
			for n := range 20 {
				publishHTTP(t, r, "jobs-"+name+"2", fmt.Sprintf(`{"n":%d,"stdout":"password=hunter2"}`, n))
				want = append(want, fmt.Sprintf(`{"n":%d,"stdout":"password=********"}`, n))
			}
			expect(t, other, want...)
			covered := strings.Replace(large(900<<10), "hunter2", "********", 1)
			expect(t, bulky, covered, covered, covered, covered, covered)
		})
	}
	// What is too large to be redacted is not shown, and costs nothing else.
	bulky := subscriber(t, r.URL, s.logins[peers.Alice], "jobs-small1")
	for range 5 {
		publishHTTP(t, r, "jobs-small1", large(5<<20))
	}
	publishHTTP(t, r, "jobs-small1", `{"stdout":"token: abc"}`)
	expect(t, bulky, `{"stdout":"token: ********"}`)
	row := pluginRowOf(t, r, "small")
	if row.Unprocessed["withheld"] != 5 || row.Breaker != "closed" {
		t.Errorf("%v, the breaker is %s", row.Unprocessed, row.Breaker)
	}
	metrics := fetch(t, r.Admin+"/metrics")
	for _, line := range []string{
		`edgerelay_plugin_unprocessed_total{outcome="withheld",plugin="small"} 5`,
		`edgerelay_events_dropped_total{reason="withheld"} 5`,
	} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("the metrics lack %s", line)
		}
	}
}

// What a plugin fails on is not shown, whatever the hook; and it opens the circuit breaker of its own group and hook
// alone.
func TestEventsOfFailingPluginsAreWithheld(t *testing.T) {
	s := newStage(t)
	r := peers.StartRelay(t, s.withPlugins(
		plugin("asked", guest(t, "guard"), "groups jobs-*"),
		plugin("withholding", guest(t, "guard"), "groups withholds-*"),
		plugin("dropping", guest(t, "guard"), "groups drops-*", "on_error drop"),
		plugin("passing", guest(t, "guard"), "groups passes-*", "on_error pass"),
		plugin("mostly", guest(t, "guard"), "groups mostly-*"),
	))
	alice := s.logins[peers.Alice]
	const guarded = `{"guarded":true}`

	t.Run("on_subscribe", func(t *testing.T) {
		other := subscriber(t, r.URL, alice, "jobs-1")
		for n := range 6 {
			c := subscriber(t, r.URL, alice)
			if answer, err := ask(c, alice, "jobs-trap1"); err != nil || answer["error"] == nil {
				t.Fatalf("subscription %d about which the plugin fails: %v, %v", n, answer, err)
			}
		}
		publishHTTP(t, r, "jobs-1", `{"secret":1}`)
		expect(t, other, guarded)
		subscriber(t, r.URL, alice, "jobs-2")
	})
	for group, want := range map[string]string{"withholds": "", "drops": "", "passes": `{"trap":1}`} {
		t.Run(group, func(t *testing.T) {
			failing := subscriber(t, r.URL, alice, group+"-3")
			other := subscriber(t, r.URL, alice, group+"-4")
			for range 6 {
				publishHTTP(t, r, group+"-3", `{"trap":1}`)
			}
			for range 10 {
				publishHTTP(t, r, group+"-4", `{"secret":1}`)
			}
			for range 10 {
				if text, err := other.Next(patience); err != nil || text != guarded {
					t.Fatalf("an event of another group: %q, %v", text, err)
				}
			}
			var texts []string
			for range 6 {
				if want != "" {
					texts = append(texts, want)
				}
			}
			expect(t, failing, texts...)
		})
	}
	t.Run("four of five", func(t *testing.T) {
		c := subscriber(t, r.URL, alice, "mostly-1")
		for n := range 20 {
			text := `{"trap":1}`
			if n%5 == 0 {
				text = `{"secret":1}`
			}
			publishHTTP(t, r, "mostly-1", text)
		}
		publishHTTP(t, r, "mostly-2", `{"n":1}`)
		testkit.Eventually(t, "the circuit breaker opens", func() error {
			if row := pluginRowOf(t, r, "mostly"); row.Breaker == "closed" {
				return fmt.Errorf("it is not after %d calls, %v", row.Calls, row.Failures)
			}
			return nil
		})
		if text, err := c.Next(patience); err != nil || text != guarded {
			t.Errorf("%q, %v", text, err)
		}
	})
}

// Clients learn by resync that they miss an event, whether it was withheld from all or from their class; other groups'
// clients do not.
func TestWithheldEventsAreReported(t *testing.T) {
	s := newStage(t)
	file := s.withPlugins(
		plugin("guard", guest(t, "guard"), "groups told-*"),
		plugin("silent", guest(t, "guard"), "groups silent-*", "on_error drop"),
	)
	r := peers.StartRelay(t, strings.Replace(file, "capacity 10000", "capacity 10000\nresync `{\"resync\": true}`", 1))
	alice := s.logins[peers.Alice]
	told, other, silent := subscriber(t, r.URL, alice, "told-1"), subscriber(t, r.URL, alice, "told-2"), subscriber(t,
		r.URL, alice, "silent-1")
	publishHTTP(t, r, "silent-1", `{"trap":1}`)
	publishHTTP(t, r, "told-1", `{"trap":1}`)
	if text, err := told.Next(patience); err != nil || text != `{"resync": true}` {
		t.Fatalf("%q, %v", text, err)
	}
	expect(t, other)
	expect(t, silent)
}

// A change of the samples takes effect without a reload, and the list says why a module is refused until then.
func TestSamplesAreWatched(t *testing.T) {
	s := newStage(t)
	dir := t.TempDir()
	file, samples := filepath.Join(dir, "tag.wasm"), filepath.Join(dir, "samples.ndjson")
	sample := func(word string) []byte {
		return fmt.Appendf(nil,
			`{"group": "tags-1", "payload": {"n": 1}, "verdict": "replace", "output": {"%s": true, "n": 1}}`, word)
	}
	write(t, file, tagger(t, "one1"))
	write(t, samples, sample("one1"))
	r := peers.StartRelay(t, s.withPlugins(plugin("tag", file, "groups tags-*", "samples "+samples)))
	c := subscriber(t, r.URL, s.logins[peers.Alice], "tags-1")
	s.tags(t, c, "one1")

	write(t, file, tagger(t, "two2"))
	list := func() string {
		out, err := r.Command("edgerelay", "plugin", "list", "--address",
			strings.TrimPrefix(r.Admin, "http://")).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	testkit.Eventually(t, "the list says why the module is refused", func() error {
		if text := list(); !strings.Contains(text, "update-rejected") || !strings.Contains(text, "sample 1 (tags-1)") {
			return errors.New(text)
		}
		return nil
	})
	s.tags(t, c, "one1")

	write(t, samples, sample("two2"))
	testkit.Eventually(t, "the module is taken with its samples", func() error {
		if row := pluginRowOf(t, r, "tag"); row.Refused != "" || row.Replaced == 0 {
			return fmt.Errorf("refused: %s", row.Refused)
		}
		return nil
	})
	s.tags(t, c, "two2")

	// Samples that the running module fails are reported, and it goes on; a reload with them is refused.
	write(t, samples, sample("one1"))
	testkit.Eventually(t, "the running module is held to the samples", func() error {
		if row := pluginRowOf(t, r, "tag"); !strings.Contains(row.Refused, "sample 1") {
			return errors.New("it is not")
		}
		return nil
	})
	s.tags(t, c, "two2")
}

// What the plugin host says before the first configuration is in force has its level, and the name of its logger.
func TestFirstLinesOfPluginsAreLogged(t *testing.T) {
	s := newStage(t)
	file := s.withPlugins(plugin("tag", guest(t, "filter"), "groups tags-*"))
	r := peers.StartRelay(t, file)
	r.Kill()
	cache := filepath.Join(r.Command().Dir, "caddy", "edgerelay", "plugins-cache")
	if err := os.Chmod(cache, 0o777); err != nil {
		t.Fatal(err)
	}
	r.Restart(file)
	for line := range strings.Lines(r.Log()) {
		if strings.Contains(line, "compiled plugins not cached on disk") {
			if !strings.Contains(line, `"level":"warn"`) || !strings.Contains(line, `"logger":"edgerelay"`) ||
				strings.Contains(line, "WARN") {
				t.Error(line)
			}
			return
		}
	}
	t.Error("there is no such line")
}
