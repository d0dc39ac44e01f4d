package browser

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"
)

// dialog is a console in a browser, whose actions are confirmed in a dialog.
type dialog struct {
	*testing.T
	page *Page
}

// press presses a button by keys.
func (d *dialog) press(selector string) {
	d.Helper()
	d.page.Wait(d, soon, fmt.Sprintf(`(e => e && !e.hidden && !e.disabled)(document.querySelector(%q))`, selector))
	d.page.Script(d, fmt.Sprintf(`document.querySelector(%q).focus(); lastKey = "none since the focus";
		document.addEventListener("keydown", e => { lastKey = e.target.outerHTML.slice(0, 200); }, {capture: true, once: true})`, selector))
	d.page.Do(d, chromedp.KeyEvent("\r"))
}

// opens waits for the dialog, with a text about the effect.
func (d *dialog) opens(title, effect string) {
	d.Helper()
	d.page.Wait(d, soon, fmt.Sprintf(`document.querySelector("#dialog").open && document.querySelector("#dialog-title").textContent.includes(%q)
		&& document.querySelector("#dialog-effect").textContent.includes(%q)`, title, effect))
}

// confirm presses the button of the dialog, and waits for the result above the page and the return of the focus.
func (d *dialog) confirm(label, said string) {
	d.Helper()
	d.page.Wait(d, soon, fmt.Sprintf(`(b => b.textContent === %q && !b.disabled)(document.querySelector("#dialog-confirm"))`, label))
	d.press("#dialog-confirm")
	d.page.Wait(d, soon, fmt.Sprintf(`!document.querySelector("#dialog").open && question === null && document.querySelector("#said").textContent.includes(%q)`, said))
}

// focused waits for the focus of an element.
func (d *dialog) focused(selector string) {
	d.Helper()
	d.page.Wait(d, soon, fmt.Sprintf(`document.activeElement?.matches(%q)`, selector))
}

// choose sets the value of a field in the dialog.
func (d *dialog) choose(name, value string) {
	d.Helper()
	d.page.Script(d, fmt.Sprintf(`{ const f = document.querySelector("#dialog [name=%s]"); f.value = %q; f.dispatchEvent(new Event("input", {bubbles: true})); }`, name, value))
}

// upload puts a file into a field of the dialog.
func (d *dialog) upload(name, file string) {
	d.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		d.Fatal(err)
	}
	d.page.Script(d, fmt.Sprintf(`{ const f = document.querySelector("#dialog [name=%s]"), list = new DataTransfer();
		list.items.add(new File([Uint8Array.from(atob(%q), c => c.charCodeAt(0))], "new.wasm"));
		f.files = list.files; f.dispatchEvent(new Event("input", {bubbles: true})); }`, name, base64.StdEncoding.EncodeToString(b)))
}

// positioned connects a client that gets positions, and is subscribed to ad_hoc_command_events-7.
func positioned(t *testing.T, s *site) (frames chan string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	conn, _, err := websocket.Dial(ctx, s.URL+"websocket/", &websocket.DialOptions{
		HTTPHeader: http.Header{"Cookie": {"csrftoken=t"}}, Subprotocols: []string{"edgerelay.events.v1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Write(ctx, websocket.MessageText, []byte(`{"groups": {"ad_hoc_command_events": ["7"]}, "xrftoken": "t"}`)); err != nil {
		t.Fatal(err)
	}
	frames = make(chan string, 100)
	go func() {
		defer close(frames)
		for {
			_, b, err := conn.Read(ctx)
			if err != nil {
				return
			}
			frames <- string(b)
		}
	}()
	awaitFrame(t, frames, `"subscribed"`)
	return frames
}

// awaitFrame waits for a frame with a text.
func awaitFrame(t *testing.T, frames chan string, text string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	for {
		select {
		case f, ok := <-frames:
			if !ok {
				t.Fatalf("the connection has ended before a frame with %s", text)
			}
			if strings.Contains(f, text) {
				return f
			}
		case <-ctx.Done():
			t.Fatalf("no frame with %s", text)
		}
	}
}

// Each action of the console, by keys alone: the dialog names the effect in numbers, and nothing happens without it.
func TestConsoleActions(t *testing.T) {
	s, admin := consoleSite(t, "")
	page := Open(t)
	d := &dialog{t, page}
	page.Do(t, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(s.URL+"edgerelay/"))
	page.Wait(t, soon, `document.querySelector("#who").textContent === "no login · may act"`)

	t.Run("close", func(t *testing.T) {
		d := &dialog{t, page}
		clients(t, s, 3, "job_events", "42")
		page.Script(t, `document.querySelector("#find-kind").value = "group"`)
		page.Do(t, chromedp.KeyEvent("f"))
		d.focused("#find-text")
		page.Do(t, chromedp.KeyEvent("job_events-42\r"))
		page.Wait(t, soon, `document.querySelectorAll("#found tbody tr").length === 3`)
		d.press("#found [data-do=close]")
		d.opens("Close connection #", "Closes 1 connection on this node")
		d.focused("#dialog-cancel")
		page.Do(t, chromedp.KeyEvent("\x1b"))
		page.Wait(t, soon, `question === null`)
		d.focused("#found [data-do=close]")
		d.press("#found [data-do=close]")
		d.confirm("Close 1 connection", "Closed 1 connection.")
		page.Wait(t, soon, `document.querySelectorAll("#found tbody tr").length === 2`)
		d.press("#find-close")
		d.opens("Close all connections of group job_events-42", "Closes 2 connections")
		d.confirm("Close 2 connections", "Closed 2 connections.")
		page.Wait(t, soon, `document.querySelector("[data-tile=Connections] .value").textContent === "0"`)
	})

	t.Run("history and replay", func(t *testing.T) {
		d := &dialog{t, page}
		frames := positioned(t, s)
		for i := range 3 {
			publishTo(t, admin, "ad_hoc_command_events-7", fmt.Sprintf(`{"counter": %d}`, i))
		}
		awaitFrame(t, frames, `"counter":2`)
		page.Script(t, `follow("ad_hoc_command_events-7")`)
		d.press("[data-view=history]")
		page.Wait(t, soon, `document.querySelectorAll("#group-view tbody tr").length === 3 && document.querySelector("#group-view .note").textContent.startsWith("3 events")`)
		d.press("#group-view tbody tr:last-child [data-do=replay]")
		d.opens("Replay ad_hoc_command_events-7", "1 client with positions is told that they may have missed 2 events")
		d.confirm("Tell 1 client", "1 client told.")
		gap := awaitFrame(t, frames, `"gap"`)
		if !strings.Contains(gap, `"position":`) || !strings.Contains(gap, `"reason":"operator"`) {
			t.Errorf("the client is told %s", gap)
		}
		d.press("[data-view=presence]")
		page.Wait(t, soon, `document.querySelector("#group-view").textContent.includes("No user is present")`)
		page.Script(t, `follow("")`)
	})

	t.Run("plugins", func(t *testing.T) {
		d := &dialog{t, page}
		d.press("[data-plugin=redact]")
		d.focused("#h-plugin")
		page.Wait(t, soon, `document.querySelector("#plugin-versions").textContent.includes("Never deployed")`)
		d.press("#plugin-tools [data-do=deploy]")
		d.opens("Deploy redact", "Choose a module.")
		d.upload("module", "../../plugins/testdata/filter.wasm")
		d.opens("Deploy redact", "Replaces the file of redact by new.wasm")
		d.choose("message", "a test")
		d.confirm("Deploy", "new.wasm is deployed")
		page.Wait(t, soon, `document.querySelector("#plugin-facts").textContent.includes("version 2") && document.querySelector("#plugin-versions").textContent.includes("a test")`)
		d.press("#plugin-tools [data-do=deploy]")
		d.upload("module", "../../plugins/testdata/pass.wasm")
		d.choose("canary", "10%")
		d.opens("Deploy redact", "on 10% of the groups")
		d.confirm("Try on 10%", "tried on 10%")
		page.Wait(t, soon, `document.querySelector("#plugin-facts").textContent.includes("running on 10%")`)
		d.press("#plugin-tools [data-do=promote]")
		d.confirm("Promote", "promoted")
		page.Wait(t, soon, `document.querySelector("#plugin-facts").textContent.includes("promoted")`)
		d.press("#plugin-tools [data-do=rollback]")
		d.opens("Roll redact back", "by the module before it")
		d.confirm("Roll back", "rolled back")
		d.press("#plugin-tools [data-do=undeploy]")
		d.confirm("Run the files", "runs its file")
		page.Wait(t, soon, `document.querySelector("#plugin-facts").textContent.includes("the file")`)
		d.press("#all-nodes summary")
		page.Wait(t, soon, `document.querySelector("#plugin-nodes").textContent.includes("All live nodes run the same.")`)
	})

	d.press("#drain-start")
	d.opens("Drain this node", "Evicts")
	d.choose("duration", "10m")
	d.confirm("Evict 0 clients", "The drain has begun")
	page.Wait(t, soon, `document.querySelector("#status").textContent === "draining" && !document.querySelector("#drain").hidden`)
	d.press("#drain-cancel")
	d.confirm("Cancel the drain", "canceled")
	page.Wait(t, soon, `document.querySelector("#status").textContent === "ok" && document.querySelector("#drain").hidden`)

	t.Run("accessibility", func(t *testing.T) {
		d := &dialog{t, page}
		source := axe(t)
		clients(t, s, 2, "job_events", "42")
		page.Script(t, `startSearch("group", "job_events-42"); follow("ad_hoc_command_events-7"); choose("history")`)
		page.Wait(t, soon, `document.querySelectorAll("#found tbody tr").length === 2 && document.querySelectorAll("#group-view tbody tr").length === 3`)
		page.Wait(t, soon, `!document.querySelector("#plugin").hidden && document.querySelector("#plugin-versions table")`)
		checkAccessibility(t, page, source, "console", allRules, someViews)
		checkAccessibility(t, page, source, "console", colors, moreViews)
		d.press("#find-close")
		d.opens("Close all connections", "Closes 2 connections")
		checkAccessibility(t, page, source, "dialog", allRules, someViews)
		if dir := os.Getenv("EDGERELAY_SCREENSHOTS"); dir != "" {
			page.Screenshot(t, filepath.Join(dir, "console-dialog-phone.png"))
			someViews[0].apply(t, page)
			page.Screenshot(t, filepath.Join(dir, "console-dialog.png"))
		}
		page.Do(t, chromedp.KeyEvent("\x1b"))
		d.focused("#find-close")
		checkKeyboard(t, page, "console")
	})
	if problems := page.Problems(); len(problems) > 0 {
		t.Errorf("the browser's console: %q", problems)
	}
}
