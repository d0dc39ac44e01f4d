package browser

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

const soon = 15 * time.Second // generous: the machine may be busy; a pass takes milliseconds

const (
	isConnected  = `document.querySelector("#state").dataset.state === "connected"`
	isSubscribed = `document.querySelectorAll("#groups-current tr").length === 3`
)

// listed counts the events shown for a group that contain a text.
func listed(group, text string) string {
	return fmt.Sprintf(`[...document.querySelectorAll("#events li")].filter(li => li.dataset.group === %q && li.querySelector("code").textContent.includes(%q)).length`, group, text)
}

// publish fills in the page's form and sends it.
func publish(group, payload string) chromedp.Action[chromedp.Void] {
	return chromedp.Steps(
		chromedp.SetValue(chromedp.CSS("#publish-group"), group),
		chromedp.SetValue(chromedp.CSS("#publish-data"), payload),
		// By key: a line that appears above moves the button away from under a pointer.
		chromedp.SendKeys(chromedp.CSS("#publish-button"), "\r"),
	)
}

// The page of `make run`, in a real browser on the real relay.
func TestDemoPage(t *testing.T) {
	site := newSite(t)
	site.start(t)
	page := Open(t)

	page.Do(t, chromedp.EmulateViewport(1180, 860), chromedp.Navigate(site.URL))
	page.Wait(t, soon, isConnected)
	page.Wait(t, soon, isSubscribed)

	page.Do(t, publish("jobs-status_changed", `{"group_name": "jobs", "unified_job_id": 42, "status": "running"}`))
	page.Wait(t, soon, listed("jobs-status_changed", `"status":"running"`)+" === 1")
	// The event has a position, and opens by keys.
	page.Script(t, `document.querySelector("#events summary").focus()`)
	page.Do(t, chromedp.KeyEvent("\r"))
	page.Wait(t, soon, `document.querySelector("#events dd code")?.textContent.length >= 22`)
	page.Wait(t, soon, `document.querySelector("#groups-current small")?.textContent.length > 22`)

	// Markup in a payload is text on the page.
	page.Do(t, publish("job_events-42",
		`{"group_name": "job_events", "job": 42, "counter": 1, "stdout": "<img src=x onerror=alert(1)><b>ok</b>"}`))
	page.Wait(t, soon, listed("job_events-42", "<img src=x")+" === 1")
	page.Wait(t, soon, `document.querySelectorAll("#events img, #events b").length === 0`)

	// The newest is on top, and each group has its count.
	page.Wait(t, soon, `document.querySelector("#events li").dataset.group === "job_events-42"`)
	page.Wait(t, soon,
		`document.querySelector('#groups-current [data-group="job_events-42"]').cells[1].textContent === "1"`)

	// An event is shown under the group it was sent to, whatever its payload says.
	page.Do(t, publish("jobs-status_changed", `{"unified_job_id": 42, "status": "no name"}`))
	page.Wait(t, soon, listed("jobs-status_changed", `"no name"`)+" === 1")
	page.Do(t, publish("jobs-summary", `{"group_name": "job_events", "job": 42, "status": "wrong name"}`))
	page.Wait(t, soon, listed("jobs-summary", `"wrong name"`)+" === 1")

	// Another subscription replaces this one: what it leaves out no longer comes.
	page.Script(t, `document.querySelector("#change").open = true`)
	page.Do(t, chromedp.SetValue(chromedp.CSS("#groups"), "schedules: changed"),
		chromedp.Click(chromedp.CSS("#subscribe-button")))
	page.Wait(t, soon, `document.querySelector("#groups-current").textContent.startsWith("schedules-changed")`)
	page.Do(t, publish("jobs-status_changed", `{"group_name": "jobs", "status": "left out"}`))
	page.Wait(t, soon, `document.querySelector("#publish-result").textContent === "published to jobs-status_changed"`)
	page.Do(t, publish("schedules-changed", `{"n": 1}`))
	page.Wait(t, soon, listed("schedules-changed", `{"n":1}`)+" === 1")
	page.Wait(t, soon, `!document.querySelector("#events").textContent.includes("left out")`)

	if problems := page.Problems(); len(problems) > 0 {
		t.Errorf("the browser's console: %q", problems)
	}

	// What is not JSON, or no group's name, is said beside the form; it never leaves, or is refused.
	page.Do(t, publish("schedules-changed", `{"n": `))
	page.Wait(t, soon, `document.querySelector("#publish-result.bad").textContent.startsWith("not JSON")`)
	page.Do(t, publish("no such group!", `{}`))
	page.Wait(t, soon, `document.querySelector("#publish-result.bad")?.textContent.startsWith("rejected (400)")`)
}

// A relay that stops and comes back: the page says why, returns by itself on a new
// socket and subscribes again.
func TestDemoPageReconnects(t *testing.T) {
	site := newSite(t)
	site.start(t)
	page := Open(t)
	page.Do(t, chromedp.Navigate(site.URL))
	page.Wait(t, soon, isConnected)
	page.Wait(t, soon, isSubscribed)
	// Every state is kept: each passes in less time than a poll takes.
	page.Script(t, `states = []; new MutationObserver(() => {
		states.push(document.querySelector("#state").textContent + ": " + document.querySelector("#detail").textContent);
	}).observe(document.querySelector("#detail"), {childList: true}); 0`)

	site.stop(t)
	page.Wait(t, soon, `states.some(s => s.startsWith("waiting: closed with code 1001"))`)
	site.start(t)
	page.Wait(t, time.Minute, isConnected)
	// The history was in the process.
	page.Wait(t, soon, missed("jobs-summary: events may be missing (unknown_position)"))
	page.Script(t, `for (const row of document.querySelectorAll("#groups-current tr")) row.remove()`)
	page.Wait(t, soon, isSubscribed)
	page.Do(t, publish("jobs-summary", `{"group_name": "jobs", "summary": {}}`))
	page.Wait(t, soon, listed("jobs-summary", `"summary"`)+" === 1")
}

// missed is true when the page tells this about the time without a connection.
func missed(text string) string {
	return fmt.Sprintf(`document.querySelector("#missed").textContent.includes(%q)`, text)
}

// A page that was disconnected gets what it missed, and says so.
func TestDemoPageRecovers(t *testing.T) {
	site := newSite(t)
	site.start(t)
	page := Open(t)
	page.Do(t, chromedp.Navigate(site.URL))
	page.Wait(t, soon, isConnected)
	page.Wait(t, soon, isSubscribed)
	page.Do(t, publish("jobs-summary", `{"n": 1}`))
	page.Wait(t, soon, listed("jobs-summary", `{"n":1}`)+" === 1")

	page.Do(t, chromedp.Click(chromedp.CSS("#disconnect")))
	page.Wait(t, soon, `document.querySelector("#state").dataset.state === "closed"`)
	page.Do(t, publish("jobs-summary", `{"n": 2}`))
	page.Wait(t, soon, `document.querySelector("#publish-result").textContent === "published to jobs-summary"`)
	page.Do(t, chromedp.Click(chromedp.CSS("#disconnect")))
	page.Wait(t, soon, missed("jobs-summary: 1 event recovered"))
	page.Wait(t, soon, missed("jobs-status_changed: nothing missed"))
	page.Wait(t, soon, listed("jobs-summary", `{"n":2}`)+" === 1")
	page.Wait(t, soon, listed("jobs-summary", `{"n":1}`)+" === 1")
}

// The client finds another way where WebSockets or streams are blocked, misses nothing, and comes back.
func TestDemoPageChangesDoors(t *testing.T) {
	site := newSite(t)
	site.start(t)
	page := Open(t)
	page.Do(t, chromedp.Navigate(site.URL))
	page.Wait(t, soon, isSubscribed)
	for i, door := range []struct{ network, name string }{
		{"streams", "event stream"}, {"polls", "long polls"}, {"all", "WebSocket"},
	} {
		page.Script(t, fmt.Sprintf(`document.querySelector("#network").value = %q;
			document.querySelector("#network").dispatchEvent(new Event("change"))`, door.network))
		page.Do(t, publish("jobs-summary", fmt.Sprintf(`{"n": %d}`, i))) // while the page has no connection, perhaps
		page.Wait(t, soon, fmt.Sprintf(`document.querySelector("#state").textContent === "connected: %s"`, door.name))
		page.Wait(t, soon, listed("jobs-summary", fmt.Sprintf(`{"n":%d}`, i))+" === 1")
	}
	if page.Holds(t, missed("events may be missing")) {
		t.Error("a change of door lost events")
	}
}

// The page switches the plugin of the repository's Caddyfile off and on; secrets come and go.
func TestDemoPageSwitchesPlugin(t *testing.T) {
	site := newSite(t)
	site.start(t)
	page := Open(t)
	page.Do(t, chromedp.Navigate(site.URL))
	page.Wait(t, soon, isSubscribed)
	page.Wait(t, soon, `document.querySelector("#plugin").getAttribute("aria-checked") === "true"`)
	page.Do(t, publish("jobs-summary", `{"n": 1, "password": "hunter2"}`))
	page.Wait(t, soon, listed("jobs-summary", `{"n":1,"password":"********"}`)+" === 1")
	page.Do(t, chromedp.Click(chromedp.CSS("#plugin")))
	page.Wait(t, soon, `document.querySelector("#plugin").getAttribute("aria-checked") === "false"`)
	page.Do(t, publish("jobs-summary", `{"n": 2, "password": "hunter2"}`))
	page.Wait(t, soon, listed("jobs-summary", `{"n":2,"password":"hunter2"}`)+" === 1")
	page.Script(t, `document.querySelector("#plugin").focus()`)
	page.Do(t, chromedp.KeyEvent(" "))
	page.Wait(t, soon, `document.querySelector("#plugin").getAttribute("aria-checked") === "true"`)
	page.Do(t, publish("jobs-summary", `{"n": 3, "password": "hunter2"}`))
	page.Wait(t, soon, listed("jobs-summary", `{"n":3,"password":"********"}`)+" === 1")

	// Another site's page cannot, and there is no other plugin.
	for _, c := range []struct {
		origin, body string
		want         int
	}{
		{"https://evil.example", `{"name": "redact"}`, http.StatusForbidden},
		{"", `{"name": "other"}`, http.StatusNotFound},
		{"", `{`, http.StatusBadRequest},
	} {
		req, err := http.NewRequest(http.MethodPost, site.URL+"demo/plugin", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		if c.origin != "" {
			req.Header.Set("Origin", c.origin)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("POST demo/plugin %s from %q: %s, want %d", c.body, c.origin, resp.Status, c.want)
		}
	}
}

// Takes the pictures: into the folder that EDGERELAY_SCREENSHOTS names, else into a
// temporary one. What can be measured of a layout is: nothing is wider than its screen, and a phone shows events at
// once.
func TestDemoPageFits(t *testing.T) {
	dir := os.Getenv("EDGERELAY_SCREENSHOTS")
	if dir == "" {
		dir = t.TempDir()
	}
	site := newSite(t)
	site.start(t)
	page := Open(t)
	page.Do(t, chromedp.EmulateViewport(1180, 860), chromedp.Navigate(site.URL))
	page.Wait(t, soon, isConnected)
	page.Wait(t, soon, isSubscribed)
	const events = 16
	page.Script(t, `(async () => {
		const send = (group, data) => fetch("publish", {method: "POST", body: JSON.stringify({group, data}), headers: {"Content-Type": "application/json"}});
		await send("jobs-status_changed", {unified_job_id: 42, status: "running", type: "job", extra_vars: {password: "hunter2"}});
		for (let n = 1; n <= 14; n++) await send("job_events-42", {id: 100 + n, job: 42, counter: n, event: "runner_on_ok",
			stdout: "\u001b[0;32mok: [web" + n + ".example.com]\u001b[0m", failed: false, changed: n % 3 === 0, task: "Install the packages"});
		await send("jobs-status_changed", {unified_job_id: 42, status: "successful", finished: "2026-11-22T10:00:00.000000Z", type: "job"});
	})(); 0`)
	page.Wait(t, soon, fmt.Sprintf(`document.querySelectorAll("#events li").length === %d`, events))
	page.Wait(t, soon,
		`document.querySelector("#chart polyline").getAttribute("points").split(" ").some(p => !p.endsWith(",19.00"))`)
	// The pictures show events per second, as a person would see them: not before the count is in.
	page.Wait(t, soon, `!document.querySelector("#total").textContent.endsWith(" 0.0/s")`)
	page.Wait(t, soon, `document.querySelector("#command").textContent.includes("edgerelay publish")`)

	for _, view := range []struct {
		name          string
		width, height int64
		scheme        string
	}{
		{"demo", 1180, 860, "light"},
		{"demo-dark", 1180, 860, "dark"},
		{"demo-phone", 390, 844, "light"},
		{"demo-phone-small", 320, 640, "dark"},
	} {
		page.Do(t, chromedp.EmulateViewport(view.width, view.height), prefers(view.scheme))
		page.Wait(t, soon, fmt.Sprintf(`innerWidth === %d && matchMedia("(prefers-color-scheme: %s)").matches`,
			view.width, view.scheme))
		if page.Holds(t, `document.documentElement.scrollWidth > document.documentElement.clientWidth`) {
			t.Errorf("%s: the page is wider than its %d pixels", view.name, view.width)
		}
		if view.width == 390 && !page.Holds(t, `scrollY === 0 &&
			[...document.querySelectorAll("#events li")].filter(li => li.getBoundingClientRect().bottom < innerHeight).length >= 4`) {
			t.Errorf("%s: the phone's first screen has less than four events", view.name)
		}
		if !page.Holds(t, isConnected) {
			t.Errorf("%s: no longer connected", view.name)
		}
		page.Screenshot(t, filepath.Join(dir, view.name+".png"))
	}
	if problems := page.Problems(); len(problems) > 0 {
		t.Errorf("the browser's console: %q", problems)
	}
}

// prefers sets the color scheme that the browser's user asks for.
func prefers(scheme string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	})
}
