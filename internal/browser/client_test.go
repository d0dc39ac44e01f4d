package browser

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/edgerelay/edgerelay/internal/guests"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// clientPage uses the client as its README shows, and keeps what it says.
const clientPage = `<!DOCTYPE html><meta charset="utf-8"><title>client</title><link rel="icon" href="data:,">
<script type="module">
import { connect } from "./edgerelay/index.js";
document.cookie = "csrftoken=of-this-page";
window.sockets = 0;
class Counted extends WebSocket { constructor(url, protocols) { super(url, protocols); window.sockets++; } }
window.events = []; window.states = []; window.groups = null; window.again = 0; window.said = [];
const setting = (name) => Number(new URLSearchParams(location.search).get(name)) || undefined;
window.client = connect({
  groups: { jobs: ["status_changed"] }, quiet: setting("quiet"), patience: setting("patience"), environment: { WebSocket: Counted },
});
client.on("event", (e) => events.push(e));
client.on("recovered", ({ group, events }) => said.push("recovered " + group + " " + events));
client.on("gap", ({ group, reason }) => said.push("gap " + group + " " + reason));
client.on("groups", (g) => { window.groups = g.current; if (g.again) window.again++; });
client.on("state", (s) => states.push(s.state + (s.code ? " " + s.code : "")));
window.publish = (group, data) => fetch("publish", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ group, data }) });
</script>`

// clientSite serves the client and its page beside a relay with the authenticator given.
func clientSite(t *testing.T, auth, more string) *site {
	t.Helper()
	return clientSiteWith(t, "channel_layer memory\n\t\tauth "+auth, "edgerelay\n\t"+more)
}

// clientSiteWith is clientSite with all settings of the relay, and all directives of the site before the files.
func clientSiteWith(t *testing.T, settings, directives string) *site {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "edgerelay"),
		os.DirFS(filepath.Join("..", "..", "clients", "js", "dist"))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "client.html"), []byte(clientPage), 0o644); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(file, fmt.Appendf(nil, `{
	admin localhost:2019
	grace_period 1s
	edgerelay {
		%s
	}
}
:8013 {
	%s
	root %s
	file_server
}
`, settings, directives, dir), 0o644); err != nil {
		t.Fatal(err)
	}
	return newSiteOf(t, file)
}

// The client against a relay that is restarted, and one that is killed.
func TestClientReconnects(t *testing.T) {
	s := clientSite(t, "none", "edgerelay_demo")
	s.start(t)
	page := Open(t)
	page.Do(t, chromedp.Navigate(s.URL+"client.html"))
	page.Wait(t, soon, `window.groups?.join() === "jobs-status_changed"`)
	page.Script(t, `publish("jobs-status_changed", {group_name: "jobs", unified_job_id: 42, status: "running"})`)
	page.Wait(t, soon, `events.length === 1 && events[0].status === "running"`)

	s.stop(t)
	page.Wait(t, soon, `states.includes("waiting 1001")`)
	page.Script(t, `client.subscribe({ jobs: ["status_changed", "summary"] })`)
	s.start(t)
	page.Wait(t, soon, `again === 1 && groups.length === 2`)
	page.Script(t, `publish("jobs-summary", {n: 2})`)
	page.Wait(t, soon, `events.length === 2 && events[1].n === 2`)

	s.process.Kill()
	s.process = nil
	page.Wait(t, soon, `states.includes("waiting 1006")`)
	s.start(t)
	// As when a person comes back to the page: no need to wait for the timer.
	page.Script(t, `dispatchEvent(new Event("online"))`)
	page.Wait(t, soon, `again === 2 && client.state === "open"`)
	page.Script(t, `publish("jobs-summary", {n: 3})`)
	page.Wait(t, soon, `events.length === 3 && events[2].n === 3`)
	page.Script(t, `client.close()`)
	page.Wait(t, soon, `states.at(-1) === "closed"`)
}

// The way to the relay goes silent in both directions, and no end of it notices: the client does, while its page is
// visible.
func TestClientNoticesSilence(t *testing.T) {
	s := clientSite(t, "none", "edgerelay_demo")
	s.start(t)
	way := testkit.StartProxy(t, strings.Trim(strings.TrimPrefix(s.URL, "http://"), "/"))
	page := Open(t)
	page.Do(t, chromedp.Navigate("http://"+way.Addr+"/client.html?quiet=500&patience=1000"))
	page.Wait(t, soon, `window.groups?.join() === "jobs-status_changed"`)
	way.Stall()
	page.Wait(t, soon, `states.includes("waiting 1006")`)
	way.Resume()
	page.Wait(t, soon, `again >= 1 && client.state === "open"`)
	page.Script(t, `publish("jobs-status_changed", {group_name: "jobs", unified_job_id: 42, status: "running"})`)
	page.Wait(t, soon, `events.some((e) => e.status === "running")`)
}

// Without a login, the client says so and does not reconnect.
func TestClientLoggedOut(t *testing.T) {
	s := clientSite(t, "caddy", "")
	s.start(t)
	page := Open(t)
	page.Do(t, chromedp.Navigate(s.URL+"client.html"))
	page.Wait(t, soon, `client.state === "loggedout" && states.at(-1) === "loggedout 1000"`)
	page.Script(t, `dispatchEvent(new Event("online")); document.dispatchEvent(new Event("visibilitychange"))`)
	if !page.Holds(t, `sockets === 1 && client.state === "loggedout"`) {
		t.Error("the client tried again")
	}
}

// As docs/forward-auth.md has it, the site's view answers 200 without a user: after a logout the client stops at its
// next connection.
func TestClientStopsAfterLogout(t *testing.T) {
	var loggedOut atomic.Bool
	view := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !loggedOut.Load() {
			w.Header().Set("X-User", "7")
		}
	}))
	t.Cleanup(view.Close)
	s := clientSite(t, "caddy {\n\t\t\tallow *\n\t\t}", `map {header.X-User} {http.auth.user.id} {
		~(.+) "${1}"
	}
	forward_auth `+strings.TrimPrefix(view.URL, "http://")+` {
		uri /whoami/
		copy_headers X-User
	}`)
	s.start(t)
	page := Open(t)
	page.Do(t, chromedp.Navigate(s.URL+"client.html"))
	page.Wait(t, soon, `window.groups?.join() === "jobs-status_changed"`)
	loggedOut.Store(true)
	s.stop(t)
	page.Wait(t, soon, `states.some((s) => s.startsWith("waiting"))`)
	s.start(t)
	page.Script(t, `dispatchEvent(new Event("online"))`)
	page.Wait(t, soon, `client.state === "loggedout"`)
	page.Script(t,
		`window.before = sockets; dispatchEvent(new Event("online")); document.dispatchEvent(new Event("visibilitychange"))`)
	if !page.Holds(t, `sockets === before && client.state === "loggedout"`) {
		t.Error("the client tried again")
	}
}

// What is committed as dist is what the sources become, and passes its own tests.
func TestClientBuild(t *testing.T) {
	dir := filepath.Join("..", "..", "clients", "js")
	npm := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		guests.Run(t, cmd)
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", ".bin", "tsc")); err != nil {
		npm("npm", "ci", "--silent", "--no-audit", "--no-fund")
	}
	fresh := t.TempDir()
	npm(filepath.Join("node_modules", ".bin", "tsc"), "-p", "tsconfig.json", "--outDir", fresh)
	files, err := os.ReadDir(fresh)
	if err != nil || len(files) < 6 {
		t.Fatalf("built %v (%v)", files, err)
	}
	for _, f := range files {
		want, err := os.ReadFile(filepath.Join(fresh, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "dist", f.Name())); err != nil || !bytes.Equal(got, want) {
			t.Errorf("clients/js/dist/%s is not what src/ becomes (%v): run `npm ci && npm run build` there and commit it", f.Name(), err)
		}
	}
	tests, err := filepath.Glob(filepath.Join(dir, "test", "*.test.mjs"))
	if err != nil || len(tests) == 0 {
		t.Fatalf("no tests (%v)", err)
	}
	args := []string{"--test"}
	for _, f := range tests {
		args = append(args, strings.TrimPrefix(f, dir+string(filepath.Separator)))
	}
	npm("node", args...)
}
