package browser

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/guests"
)

// functionExamples are the folders of examples/functions, each with a test of its page in two tabs.
var functionExamples = map[string]func(t *testing.T, s *site, first, second Tab){
	"chat":     testChatFunction,
	"cursors":  testCursorsFunction,
	"poll":     testPollFunction,
	"progress": testProgressFunction,
	"todo":     testTodoFunction,
}

// TestFunctionExamples runs each example as its README says, in two tabs of one browser.
func TestFunctionExamples(t *testing.T) {
	page := Open(t)
	second := page.Tab(t)
	folders, err := os.ReadDir(filepath.Join(guests.Root, "examples", "functions"))
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		if !folder.IsDir() {
			continue
		}
		t.Run(folder.Name(), func(t *testing.T) {
			test, ok := functionExamples[folder.Name()]
			if !ok {
				t.Fatal("the example has no test; add it to functionExamples")
			}
			s := functionSite(t, folder.Name())
			s.start(t)
			test(t, s, page, second)
			if problems := page.Problems(); len(problems) > 0 {
				t.Errorf("the browser's console: %q", problems)
			}
			// The pages go before their relay.
			page.Go(t, "about:blank")
			second.Go(t, "about:blank")
		})
	}
}

// functionSite copies an example and builds its module, if it is in Go.
func functionSite(t *testing.T, name string) *site {
	t.Helper()
	dir := filepath.Join(guests.Root, "examples", "functions", name)
	s := newSiteOf(t, filepath.Join(dir, "Caddyfile"))
	s.dir = filepath.Join(t.TempDir(), name)
	if err := os.CopyFS(s.dir, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "function.go")); err != nil {
		return s
	}
	if err := os.WriteFile(filepath.Join(s.dir, "function.wasm"), guests.BuildGo(t, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// A message of each tab reaches both, and no other room.
func testChatFunction(t *testing.T, s *site, first, second Tab) {
	const connected = `document.querySelector("#state").textContent === "connected"`
	said := func(lines string) string {
		return `[...document.querySelectorAll("#log p")].map((p) => p.textContent).join("; ") === "` + lines + `"`
	}
	say := func(tab Tab, text string) {
		t.Helper()
		tab.Value(t, `(document.querySelector("#message").value = "`+text+`", document.querySelector("#say button").click())`)
	}
	first.Go(t, s.URL)
	first.Value(t, `(document.querySelector("#room").value = "lobby", document.querySelector("#enter button").click())`)
	second.Go(t, s.URL+"chat/lobby/")
	first.Wait(t, soon, connected)
	second.Wait(t, soon, connected)
	say(first, "hello")
	second.Wait(t, soon, said("hello"))
	say(second, "<b>Grüße</b>")
	first.Wait(t, soon, said("hello; <b>Grüße</b>"))

	second.Go(t, s.URL+"chat/elsewhere/")
	second.Wait(t, soon, connected)
	say(first, "not for the other room")
	first.Wait(t, soon, said("hello; <b>Grüße</b>; not for the other room"))
	say(second, "alone")
	second.Wait(t, soon, said("alone"))
}

// Each tab shows the cursor of the other one, which goes with its tab.
func testCursorsFunction(t *testing.T, s *site, first, second Tab) {
	first.Go(t, s.URL+"?name=Ann")
	second.Go(t, s.URL+"?name=Ben")
	first.Wait(t, soon, `document.querySelector("#state").textContent === "You are Ann."`)
	second.Wait(t, soon, `document.querySelector("#state").textContent === "You are Ben."`)
	point(t, second, 0.25, 0.5)
	first.Wait(t, soon, `document.querySelector(".cursor span")?.textContent === "Ben"`)
	first.Wait(t, soon, `(({left, top}) => Math.abs(left - innerWidth / 4) < 2 && Math.abs(top - innerHeight / 2) < 2)(
		document.querySelector(".cursor").getBoundingClientRect())`)
	point(t, first, 0.5, 0.5)
	second.Wait(t, soon, `document.querySelector(".cursor span")?.textContent === "Ann"`)
	second.Go(t, "about:blank")
	first.Wait(t, soon, `document.querySelectorAll(".cursor").length === 0`)
}

// Votes of each tab show in both, and a tab has one vote. A later page has the votes so far.
func testPollFunction(t *testing.T, s *site, first, second Tab) {
	shows := func(votes string) string {
		return `[...document.querySelectorAll("#options button")].map((b) => b.lastChild.textContent).join() === "` +
			votes + `"`
	}
	vote := func(tab Tab, option int) {
		t.Helper()
		tab.Value(t, fmt.Sprintf(`document.querySelectorAll("#options button")[%d].click()`, option))
	}
	const chosen = `document.querySelector("#options [aria-pressed=true]")?.firstChild.textContent === `
	first.Go(t, s.URL)
	second.Go(t, s.URL)
	first.Wait(t, soon, shows("0,0,0"))
	second.Wait(t, soon, shows("0,0,0"))
	vote(first, 0)
	second.Wait(t, soon, shows("1,0,0"))
	vote(second, 1)
	first.Wait(t, soon, shows("1,1,0"))
	first.Wait(t, soon, chosen+`"Tea"`)
	// The answer to the second vote of a tab is its choice; no count changes.
	vote(first, 2)
	second.Go(t, s.URL)
	second.Wait(t, soon, shows("1,1,0"))
	vote(second, 2)
	first.Wait(t, soon, shows("1,1,1"))
	first.Wait(t, soon, chosen+`"Tea"`)
}

// Both tabs change one list at the same time; a later page has all of it.
func testTodoFunction(t *testing.T, s *site, first, second Tab) {
	const each = 5
	here := func(n int) string {
		return fmt.Sprintf(`document.querySelector("#state").textContent === "%d are here"`, n)
	}
	items := func(n int) string { return fmt.Sprintf(`document.querySelectorAll("li").length === %d`, n) }
	first.Go(t, s.URL)
	second.Go(t, s.URL)
	first.Wait(t, soon, here(2))
	second.Wait(t, soon, here(2))
	add := fmt.Sprintf(`void (() => { for (let i = 0; i < %d; i++) send({do: "add", text: "<b>item " + i}) })()`, each)
	first.Value(t, add)
	second.Value(t, add)
	first.Wait(t, soon, items(2*each))
	second.Wait(t, soon, items(2*each))
	first.Value(t, `document.querySelector("li input").click()`)
	second.Wait(t, soon, `document.querySelectorAll(":checked").length === 1`)
	second.Go(t, s.URL)
	second.Wait(t, soon, items(2*each)+` && document.querySelectorAll(":checked").length === 1`)
	second.Value(t, `document.querySelector("li button").click()`)
	first.Wait(t, soon, items(2*each-1)+` && document.querySelectorAll(":checked").length === 0`)
	second.Go(t, "about:blank")
	first.Wait(t, soon, `document.querySelector("#state").textContent === "only you are here"`)
}

// A job with 20,000 events shows as a few frames in each tab, with the right sums.
func testProgressFunction(t *testing.T, s *site, first, second Tab) {
	const connected = `document.querySelector("#state").textContent === "connected"`
	const events = 20_000
	first.Go(t, s.URL+"?job=7&seconds=2")
	first.Wait(t, soon, connected)
	second.Go(t, s.URL+"?job=7")
	second.Wait(t, soon, connected)
	first.Value(t, `document.querySelector("button").click()`)
	for _, tab := range []Tab{first, second} {
		tab.Wait(t, time.Minute, fmt.Sprintf(
			`last.finished && last.total === %d && parts.reduce((sum, part) => sum + last[part], 0) === last.total`, events))
	}
	took, err := strconv.ParseFloat(first.Value(t, "took"), 64)
	if err != nil {
		t.Fatal(err)
	}
	frames, err := strconv.ParseFloat(second.Value(t, "seen.frames"), 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.0f events a second became %.1f frames a second, of %s bytes in all: 1 frame for %.0f events",
		events/took*1000, frames/took*1000, second.Value(t, "seen.bytes"), events/frames)
	if most := 4*took/1000 + 3; frames > most {
		t.Errorf("%.0f frames in %.0f ms, want at most %.0f", frames, took, most)
	}
	// A page that comes later has the result at once.
	second.Go(t, s.URL+"?job=7")
	second.Wait(t, soon, "last.finished && seen.frames === 1")
}

// point moves the pointer of a page to a place, in parts of its window.
func point(t *testing.T, tab Tab, x, y float64) {
	t.Helper()
	tab.Value(t, fmt.Sprintf(`dispatchEvent(new PointerEvent("pointermove",
		{clientX: %v * innerWidth, clientY: %v * innerHeight}))`, x, y))
}
