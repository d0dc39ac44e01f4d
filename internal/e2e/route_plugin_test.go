package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
)

// A plugin of the C SDK masks messages of channels_redis: a route sends what it made of them, by "plugin" whole, and by
// other rules in their form. plugin test shows the same without a relay.
func TestPluginOfRoute(t *testing.T) {
	t.Parallel()
	redis := peers.StartRedis(t)
	python := peers.StartEmitter(t, redis.URL)
	wasm := filepath.Join(peers.Root(t), "examples", "plugins", "redact-c", "plugin.wasm")
	r := peers.StartRelay(t, `{
	admin {$ADMIN}
	edgerelay {
		channel_layer redis `+redis.URL+`
		auth none
		plugin redact `+wasm+` {
			groups notes
		}
	}
}
{$SITE} {
	edgerelay {
		route /ws/notes/ {
			groups notes others
			on     note.added   plugin redact
			on     note.changed json   text
		}
	}
}
`)
	c := dialGrip(t, r.URL+"/ws/notes/")
	note := func(group, kind string) {
		python.SendMessage(group, map[string]any{"type": kind, "text": "mysql --password hunter2"})
	}
	note("notes", "note.added")
	c.hear(`{"text": "mysql --password ********", "type": "note.added"}`) // the order in which the test encodes it
	note("notes", "note.changed")
	c.hear(`{"text": "mysql --password ********"}`)
	note("others", "note.added") // a group without the plugin: no frame
	note("others", "note.changed")
	c.hear(`{"text": "mysql --password hunter2"}`)
	sample := filepath.Join(t.TempDir(), "sample.ndjson")
	line := `{"group": "notes", "payload": {"type": "note.added", "text": "--password hunter2"}, "verdict": "replace", ` +
		`"output": {"type": "note.added", "text": "--password ********"}}`
	if err := os.WriteFile(sample, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := r.Command("edgerelay", "plugin", "test", wasm, sample).CombinedOutput(); err != nil ||
		!strings.Contains(string(out), "replace") {
		t.Errorf("plugin test: %v %s", err, out)
	}
}

// A plugin's classes of users hold for routes: each gets its own rendering, in the form of the rule.
func TestPluginClassesOfRoute(t *testing.T) {
	t.Parallel()
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.Header.Get("Authorization")
		_, _ = fmt.Fprintf(w, `{"user": {"id": %q, "name": %q, "is_superuser": %t}, "groups": []}`, name, name, name == "admin")
	}))
	defer endpoint.Close()
	r := peers.StartRelay(t, `{
	admin {$ADMIN}
	edgerelay {
		channel_layer memory
		auth http `+endpoint.URL+`
		plugin classes `+guest(t, "classes")+` {
			groups jobs-secret
		}
	}
}
{$SITE} {
	edgerelay {
		route /ws/ {
			groups jobs-secret
			on     job.done json n secret
			on     job.note plugin classes
		}
	}
}
`)
	plain := dialWith(t, r.URL+"/ws/", http.Header{"Authorization": {"alice"}})
	super := dialWith(t, r.URL+"/ws/", http.Header{"Authorization": {"admin"}})
	for _, c := range []struct{ kind, plain, super string }{
		{"job.done", `{"n": 1, "secret": "***"}`, `{"n": 1, "secret": "s3cret"}`},
		{"job.note", `{"type": "job.note", "n": 1, "secret": "***"}`, `{"type": "job.note", "n": 1, "secret": "s3cret"}`},
	} {
		out, code := run(t, r, "publish", "--type", c.kind, "--group", "jobs-secret", "--data", `{"n": 1, "secret": "s3cret"}`)
		if code != 0 {
			t.Fatal(out)
		}
		plain.hear(c.plain)
		super.hear(c.super)
	}
}
