package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// pluginSite is a site with a plugin and a history.
func pluginSite(t *testing.T) string {
	t.Helper()
	wasm := filepath.Join(peers.Root(t), "examples", "plugins", "quiet", "plugin.wasm")
	return "{\nadmin {$ADMIN}\npersist_config off\nedgerelay {\nauth none\nhistory jobs-*\nplugin quiet " + wasm +
		" {\ngroups none-*\n}\n}\n}\n{$SITE} {\nedgerelay\n}\n"
}

// The JSON of every command is an object, to which later versions can add members.
func TestListsOfPluginsAreObjects(t *testing.T) {
	t.Parallel()
	r := peers.StartRelay(t, pluginSite(t))
	address := "--address=" + strings.TrimPrefix(r.Admin, "http://")
	for _, c := range []struct {
		args   []string
		member string
	}{
		{[]string{"plugin", "list"}, "plugins"},
		{[]string{"plugin", "history", "quiet"}, "versions"},
		{[]string{"plugin", "logs", "quiet"}, "lines"},
	} {
		out := command(t, r, append(c.args, "--json", address)...)
		var object map[string][]json.RawMessage
		err := json.Unmarshal([]byte(out.stdout), &object)
		if err != nil || object[c.member] == nil || len(object) != 1 {
			t.Errorf("%q: want an object with the list %s: %v: %+v", c.args, c.member, err, out)
		}
	}
}

// A value that a flag does not know is an error of the command line, with the known values: nothing happens.
func TestValuesOfFlagsAreChecked(t *testing.T) {
	t.Parallel()
	r := peers.StartRelay(t, memorySite)
	dir := filepath.Join(t.TempDir(), "new")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"group", "list", "--sort", "size"}, `--sort: invalid value "size"; use name, rate or subscribers`},
		{[]string{"connection", "list", "--sort", "x"}, `--sort: invalid value "x"; use id or slowest`},
		{[]string{"plugin", "new", "--kind", "x", dir}, `--kind: invalid value "x"; use filter or function`},
		{
			[]string{"plugin", "new", "--language", "x", dir},
			`--language: invalid value "x"; use go, rust, assemblyscript or c`,
		},
		{
			[]string{"plugin", "test", "--on-error", "x", "a.wasm", "-"},
			`--on-error: invalid value "x"; use withhold, pass, drop or last_good`,
		},
	} {
		out := command(t, r, c.args...)
		if out.code != 2 || out.stdout != "" || out.stderr != "error: "+c.want+"\n" {
			t.Errorf("%q: want exit code 2 and %q: %+v", c.args, c.want, out)
		}
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a directory was made")
	}
}

// A replay from the command line tells its effect first, and tells the clients without the flag --dry-run.
func TestGroupReplayCommand(t *testing.T) {
	t.Parallel()
	r := peers.StartRelay(t, pluginSite(t))
	address := "--address=" + strings.TrimPrefix(r.Admin, "http://")
	subscriber(t, r.URL, peers.Login{CSRF: "t"}, "jobs-1")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{
			[]string{"--since", "5m", "--dry-run"},
			0,
			"jobs-1: no client would be told; 1 client cannot be told, since resync is not set",
		},
		{[]string{"--since", "5m"}, 0, "jobs-1: no client told; 1 client cannot be told"},
		{[]string{"--since", "5m", "--json"}, 0, `"untold": 1`},
		{[]string{"--since", "soon"}, 2, "soon"},
		{nil, 2, `required flag(s) "since" not set`},
	} {
		out := command(t, r, append(append([]string{"group", "replay", "jobs-1"}, c.args...), address)...)
		if out.code != c.code || !strings.Contains(out.stdout+out.stderr, c.want) {
			t.Errorf("%q: want exit code %d and %q: %+v", c.args, c.code, c.want, out)
		}
	}
}

// A change names the canary that its author has seen: with another one, or with none, nothing changes.
func TestChangesNameTheCandidate(t *testing.T) {
	t.Parallel()
	r := peers.StartRelay(t, pluginSite(t))
	address := "--address=" + strings.TrimPrefix(r.Admin, "http://")
	other := filepath.Join(peers.Root(t), "plugins", "testdata", "pass.wasm")
	seen := strings.Repeat("0", 64)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"deploy", "quiet", other, "--canary", "10%"}, 0, "canary"},
		{[]string{"promote", "quiet", "--candidate", seen}, 1, "the candidate is "},
		{[]string{"promote", "quiet", "--candidate", seen[:12]}, 1, "the canary has changed"},
		{[]string{"rollback", "quiet", "--candidate", "none"}, 1, "the canary has changed"},
		{[]string{"canary", "quiet"}, 0, "running"},
		{[]string{"canary", "quiet", "--share", "lots"}, 2, "lots"},
		{[]string{"promote", "quiet", "--candidate", "abc"}, 2, "use the first 12 digits"},
	} {
		out := command(t, r, append(append([]string{"plugin"}, c.args...), address)...)
		if out.code != c.code || !strings.Contains(out.stdout+out.stderr, c.want) {
			t.Errorf("%q: want exit code %d and %q: %+v", c.args, c.code, c.want, out)
		}
	}
	var list struct {
		Plugins []struct{ Canary struct{ Hash string } }
	}
	if out := command(t, r, "plugin", "list", "--json", address); json.Unmarshal([]byte(out.stdout), &list) != nil {
		t.Fatalf("%+v", out)
	}
	runs := list.Plugins[0].Canary.Hash[:12]
	if out := command(t, r, "plugin", "promote", "quiet", "--candidate", runs, address); out.code != 0 {
		t.Errorf("promote of the canary that runs: %+v", out)
	}
}

// A bundle of a node that is down has its configuration, redacted, and what the doctor finds about its hosts.
func TestSupportBundleOfAStoppedNode(t *testing.T) {
	t.Parallel()
	r := peers.StartRelay(t, memorySite)
	dir, port := t.TempDir(), testkit.FreePort(t)
	config, bundle := filepath.Join(dir, "Caddyfile"), filepath.Join(dir, "bundle.tar.gz")
	text := fmt.Sprintf("{\npersist_config off\nedgerelay {\nauth none\nchannel_layer "+
		"redis redis://:s3cret-redis-01@127.0.0.1:%d\nbackplane {\n"+
		"secret s3cret-plane-02\npeers http://127.0.0.1:%d/s3cretpath03/\n}\n}\n}\n:0 {\nedgerelay\n}\n", port, port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out := command(t, r, "support-bundle", "--config", config, "-o", bundle)
	if out.code != 0 || !strings.Contains(out.stdout, "left out: status.json: the relay does not run") {
		t.Fatalf("%+v", out)
	}
	files := unpack(t, bundle)
	for name, want := range map[string]string{
		"config.json": `"kind": "redis"`, "doctor.json": "connection refused", "versions.json": "caddy",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s lacks %q:\n%s", name, want, files[name])
		}
	}
	for name, content := range files {
		if strings.Contains(content, "s3cret") {
			t.Errorf("%s contains a secret:\n%s", name, content)
		}
	}
	out = command(t, r, "support-bundle", "--address=localhost:1", "-o", filepath.Join(dir, "no.tar.gz"))
	if out.code != 3 || !strings.Contains(out.stderr, "without a running relay, use --config") {
		t.Errorf("without a relay: %+v", out)
	}
	if out = command(t, r, "support-bundle", "--config", filepath.Join(dir, "none")); out.code != 1 {
		t.Errorf("without the file: %+v", out)
	}
}
