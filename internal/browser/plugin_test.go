package browser

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/edgerelay/edgerelay/internal/guests"
)

// The path of docs/write-a-plugin.md in every language: a new project, built, tried on its samples, run, and in the
// browser only what its plugin lets through.
func TestNewPlugin(t *testing.T) {
	program := caddy(t)
	for _, lang := range []string{"go", "rust", "assemblyscript", "c"} {
		t.Run(lang, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "my-plugin")
			command := func(dir, name string, args ...string) {
				t.Helper()
				cmd := exec.Command(name, args...)
				cmd.Dir = dir
				cmd.Env = append(os.Environ(), "GOFLAGS=", "GOPROXY=off", "GOWORK=off")
				guests.Run(t, cmd)
			}
			command("", program, "edgerelay", "plugin", "new", "--lang", lang, dir)
			command(dir, "sh", "build.sh")
			command(dir, program, "edgerelay", "plugin", "test", "plugin.wasm", "events.ndjson")

			site := newSiteOf(t, filepath.Join(dir, "Caddyfile"))
			site.dir = dir
			site.start(t)
			page := Open(t)
			page.Do(t, chromedp.Navigate(site.URL))
			page.Wait(t, soon, isConnected)
			page.Wait(t, soon, isSubscribed)
			page.Do(t, publish("jobs-status_changed",
				`{"group_name": "jobs", "unified_job_id": 43, "status": "successful"}`))
			page.Wait(t, soon,
				`document.querySelector("#publish-result").textContent === "published to jobs-status_changed"`)
			page.Do(t, publish("jobs-status_changed",
				`{"group_name": "jobs", "unified_job_id": 42, "status": "failed"}`))
			page.Wait(t, soon, listed("jobs-status_changed", `"status":"failed","seen":true`)+" === 1")
			page.Wait(t, soon, `!document.querySelector("#events").textContent.includes("successful")`)
		})
	}
}
