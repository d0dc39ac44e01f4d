package browser

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// awayPeer is the configuration of a backplane whose only peer is away.
func awayPeer(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("backplane {\nsecret x\nnode_name web1\npeers http://127.0.0.1:%d\n}", testkit.FreePort(t))
}

// consoleSite is a node with plugins and a console with actions. more is further configuration of the relay, and
// settings are further ones of the console.
func consoleSite(t *testing.T, more string, settings ...string) (s *site, admin string) {
	t.Helper()
	redact, err := filepath.Abs("../../plugins/testdata/pass.wasm")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "Caddyfile")
	text := fmt.Sprintf(`{
	admin localhost:2019
	persist_config off
	edgerelay {
		auth none
		history ad_hoc_command_events-*
		plugin redact %[1]s {
			groups job_events-*
		}
		plugin quiet %[1]s {
			groups jobs-*
		}
		%[2]s
	}
}
:8013 {
	edgerelay {
		path /websocket/
		route /presence/ {
			groups jobs-summary
			presence
		}
	}
	edgerelay_console {
		actions on
		uploads on
		%[3]s
	}
	respond "site"
}
`, redact, more, strings.Join(settings, "\n\t\t"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s = newSiteOf(t, file)
	s.start(t)
	config, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	_, admin, _ = strings.Cut(string(config), "admin ")
	admin, _, _ = strings.Cut(admin, "\n")
	return s, admin
}

// clients connects n clients that are subscribed to a group.
func clients(t *testing.T, s *site, n int, kind, item string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	for range n {
		conn, _, err := websocket.Dial(ctx, s.URL+"websocket/",
			&websocket.DialOptions{HTTPHeader: http.Header{"Cookie": {"csrftoken=t"}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Write(ctx, websocket.MessageText,
			fmt.Appendf(nil, `{"groups": {%q: [%q]}, "xrftoken": "t"}`, kind, item)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, _, err := conn.Read(ctx); err != nil {
				t.Fatal(err)
			}
		}
		go func() {
			for {
				if _, _, err := conn.Read(ctx); err != nil {
					return
				}
			}
		}()
	}
}

func publishTo(t *testing.T, admin, group, data string) {
	t.Helper()
	resp, err := http.Post("http://"+admin+"/edgerelay/publish", "application/json",
		strings.NewReader(fmt.Sprintf(`{"group": %q, "data": %s}`, group, data)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 {
		t.Fatalf("publish: %s %s", resp.Status, b)
	}
}

// traffic publishes a little of everything until the test ends.
func traffic(t *testing.T, admin string) {
	t.Helper()
	done, ended := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(done); <-ended })
	go func() {
		defer close(ended)
		tick := time.NewTicker(15 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			group, data := "job_events-42", fmt.Sprintf(`{"event": "runner_on_ok", "host": "web%02d", "counter": %d, "stdout": "ok: [web%02d]"}`, i%7, i, i%7)
			switch {
			case i%97 < 30 && i%3 == 0:
				group, data = "jobs-status_changed", fmt.Sprintf(`{"unified_job_id": %d, "status": "running"}`, i)
			case i%11 == 0:
				group, data = "workflow_events-7", fmt.Sprintf(`{"event": "playbook_on_task_start", "counter": %d}`, i)
			case i%97 > 80:
				continue
			}
			if resp, err := http.Post("http://"+admin+"/edgerelay/publish", "application/json",
				strings.NewReader(fmt.Sprintf(`{"group": %q, "data": %s}`, group, data))); err == nil {
				_ = resp.Body.Close()
			}
		}
	}()
}

// The console in a real browser: what happens shows, by mouse and by keys, and nothing of it is markup.
func TestConsole(t *testing.T) {
	s, admin := consoleSite(t, awayPeer(t))
	clients(t, s, 12, "job_events", "42")
	clients(t, s, 3, "jobs", "status_changed")
	clients(t, s, 2, "workflow_events", "7")
	page := Open(t)
	page.Do(t, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(s.URL+"edgerelay"))
	page.Wait(t, soon, `document.querySelector("#status").textContent === "ok"`)
	page.Wait(t, soon,
		`location.pathname === "/edgerelay/" && document.querySelector("[data-tile=Connections] .value").textContent === "17"`)
	page.Wait(t, soon,
		`document.querySelector("#plugins").textContent.includes("redact") && document.querySelector("#peers .note")`)

	for i := range 10 {
		publishTo(t, admin, "job_events-42", fmt.Sprint(i))
	}
	page.Wait(t, soon, `document.querySelector("#layer").textContent.includes("120, 360 B")`)
	page.Wait(t, soon, `document.querySelector("#groups button").textContent === "job_events-42"`)
	page.Wait(t, soon,
		`document.querySelector("[data-tile='Events a second'] path.curve").getAttribute("d")?.includes("L")`)

	// By keys alone: "/" into the field, a group, Enter; an event; Escape.
	page.Do(t, chromedp.KeyEvent("/"))
	page.Wait(t, soon, `document.activeElement.id === "group"`)
	page.Do(t, chromedp.KeyEvent("jobs-status_changed\r"))
	page.Wait(t, soon, `document.querySelector("#tail-note").textContent.includes("no events yet")`)
	publishTo(t, admin, "jobs-status_changed",
		`{"status": "<img src=x onerror=alert(1)><b>failed</b>`+"\u202e"+`", "big": 12345678901234567890}`)
	page.Wait(t, soon,
		`document.querySelector("#events li code")?.textContent.includes('<img src=x onerror=alert(1)><b>failed</b>\\u202e","big":12345678901234567890')`)
	page.Wait(t, soon, `document.querySelectorAll("#events img, #events b").length === 0`)
	page.Do(t, chromedp.KeyEvent("\x1b"))
	page.Wait(t, soon, `document.querySelector("#events").hidden`)
	page.Script(t, `document.activeElement.blur()`)
	page.Do(t, chromedp.KeyEvent("p"))
	page.Wait(t, soon, `document.querySelector("#pause").getAttribute("aria-pressed") === "true"`)
	page.Do(t, chromedp.KeyEvent("p"))
	// A group of the list is a button; it keeps the focus while the list changes around it.
	page.Script(t, `document.querySelector("#groups [data-group=job_events-42]").focus()`)
	page.Do(t, chromedp.KeyEvent("\r"))
	page.Wait(t, soon,
		`!document.querySelector("#events").hidden && document.querySelector("#group").value === "job_events-42"`)
	page.Wait(t, soon, `document.querySelector("#tail-note").textContent.includes("job_events-42; no events yet")`)
	for i := range 3 {
		publishTo(t, admin, "job_events-42", fmt.Sprint(i))
		page.Wait(t, soon, fmt.Sprintf(`document.querySelectorAll("#events li").length === %d`, i+1))
	}
	page.Wait(t, soon, `document.activeElement.dataset.group === "job_events-42"`)
	if problems := page.Problems(); len(problems) > 0 {
		t.Errorf("the browser's console: %q", problems)
	}

	// What an operator may ask for, and others may not.
	for path, want := range map[string]int{
		"edgerelay/tail?group=a%20b":                400,
		"edgerelay/tail?group=broadcast-group_send": 400, "edgerelay/overview": 200, "edgerelay/other": 200,
	} {
		resp, err := http.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	req, _ := http.NewRequest(http.MethodGet, s.URL+"edgerelay/overview", nil)
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	if resp, err := http.DefaultClient.Do(req); err != nil || resp.StatusCode != 403 {
		t.Errorf("from another site: %v, %v", resp, err)
	}
	if resp, err := http.Post(s.URL+"edgerelay/", "", nil); err != nil || resp.StatusCode != 405 {
		t.Errorf("POST: %v, %v", resp, err)
	}

	// The relay goes away and comes back: the page says so, and goes on.
	s.stop(t)
	page.Wait(t, soon,
		`!document.querySelector("#trouble").hidden && document.querySelector("#trouble").textContent.includes("does not respond")`)
	s.start(t)
	page.Wait(t, soon,
		`document.querySelector("#trouble").hidden && document.querySelector("#status").textContent === "ok"`)
}

// The console shows the versions of peers, and drops between nodes by reason.
func TestConsoleShowsPeers(t *testing.T) {
	other, _ := consoleSite(t, "backplane {\nsecret x\nnode_name web2\n}")
	s, _ := consoleSite(t, "backplane {\nsecret x\nnode_name web1\npeers "+strings.TrimSuffix(other.URL, "/")+"\n}")
	page := Open(t)
	page.Do(t, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(s.URL+"edgerelay/"))
	const cell = `(title => { const [head, row] = document.querySelectorAll("#peers tr");
		return row?.cells[[...head.cells].findIndex(c => c.textContent === title)]?.textContent; })`
	page.Wait(t, soon, cell+`("State") === "connected" && `+cell+`("Node").startsWith("web2")`)
	page.Wait(t, soon, `document.querySelector("#facts").textContent.endsWith(`+cell+`("Version"))`)
	page.Do(t, chromedp.KeyEvent("p"))
	page.Script(t, `get("overview").then(o => { o.backplane.dropped = {queue_full: 3, link_lost: 2}; render(o); })`)
	page.Wait(t, soon, `[...document.querySelectorAll("#drops tbody tr")]
		.map(r => r.innerText.replaceAll("\t", " ")).join() ===
		"dropped between nodes link lost 2,dropped between nodes queue full 3"`)
	checkAccessibility(t, page, axe(t), "console with a peer", allRules, someViews)
}

// Takes the pictures, in the folder that EDGERELAY_SCREENSHOTS names, else in a temporary one; nothing is wider than
// its screen.
func TestConsolePictures(t *testing.T) {
	s, admin := consoleSite(t, awayPeer(t))
	clients(t, s, 40, "job_events", "42")
	clients(t, s, 12, "jobs", "status_changed")
	clients(t, s, 5, "workflow_events", "7")
	traffic(t, admin)
	page := Open(t)
	page.Do(t, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(s.URL+"edgerelay/"))
	page.Wait(t, soon, `document.querySelector("#groups .n") !== null`)
	page.Script(t, `follow("jobs-status_changed")`)
	wait := soon
	if os.Getenv("EDGERELAY_SCREENSHOTS") != "" { // for the documentation: with some past
		wait = 3 * time.Minute
		page.Wait(t, wait,
			`document.querySelector("[data-tile='Events a second'] path.curve").getAttribute("d")?.split("L").length > 45`)
	}
	page.Wait(t, wait, `document.querySelectorAll("#events li").length >= 3`)
	dir := os.Getenv("EDGERELAY_SCREENSHOTS")
	if dir == "" {
		dir = t.TempDir()
	}
	for _, view := range []struct {
		name          string
		width, height int64
		scheme        string
	}{
		{"console", 1280, 900, "light"},
		{"console-dark", 1280, 900, "dark"},
		{"console-phone", 390, 844, "dark"},
		{"console-phone-light", 360, 740, "light"},
	} {
		page.Do(t, chromedp.EmulateViewport(view.width, view.height), prefers(view.scheme))
		page.Wait(t, soon, fmt.Sprintf(`innerWidth === %d && matchMedia("(prefers-color-scheme: %s)").matches`,
			view.width, view.scheme))
		page.Wait(t, soon, `document.documentElement.scrollWidth <= innerWidth`)
		page.Wait(t, soon, fmt.Sprintf(`(getComputedStyle(document.body).backgroundColor.match(/\d+/)[0] < 128) === %t`,
			view.scheme == "dark"))
		page.Screenshot(t, filepath.Join(dir, view.name+".png"))
	}
}
