package browser

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/edgerelay/edgerelay/internal/guests"
)

// axe is the source of axe-core, the accessibility checker, from npm.
func axe(t *testing.T) string {
	t.Helper()
	dir := filepath.Join("testdata", "axe")
	file := filepath.Join(dir, "node_modules", "axe-core", "axe.min.js")
	if _, err := os.Stat(file); err != nil {
		cmd := exec.Command("npm", "ci", "--silent", "--no-audit", "--no-fund")
		cmd.Dir = dir
		guests.Run(t, cmd)
	}
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(source)
}

// view is a screen of a reader.
type view struct {
	width, height int64
	scheme        string
}

func (v view) String() string { return fmt.Sprintf("%d px, %s", v.width, v.scheme) }

func (v view) apply(t *testing.T, page *Page) {
	t.Helper()
	page.Do(t, chromedp.EmulateViewport(v.width, v.height), prefers(v.scheme))
	page.Wait(t, soon, fmt.Sprintf(`innerWidth === %d && matchMedia("(prefers-color-scheme: %s)").matches`,
		v.width, v.scheme))
	// The page's listeners for the new size run before the next frame.
	page.Script(t, `window.settled = false;
		requestAnimationFrame(() => requestAnimationFrame(() => { window.settled = true; }))`)
	page.Wait(t, soon, `window.settled`)
}

// someViews have each width and each scheme once; moreViews have the other pairs.
var (
	someViews = []view{{1280, 900, "light"}, {390, 844, "dark"}}
	moreViews = []view{{1280, 900, "dark"}, {390, 844, "light"}}
)

const (
	allRules = `{resultTypes: ["violations"]}`
	colors   = `{resultTypes: ["violations"], runOnly: ["color-contrast"]}` // what else depends on the scheme
)

// checkAccessibility runs axe-core in each view, and looks for what is wider than its screen. The page is open.
func checkAccessibility(t *testing.T, page *Page, source, name, rules string, views []view) {
	t.Helper()
	page.Script(t, source)
	for _, v := range views {
		v.apply(t, page)
		if page.Holds(t, `document.documentElement.scrollWidth > document.documentElement.clientWidth`) {
			t.Errorf("%s, %v: the page is wider than its screen", name, v)
		}
		page.Script(t, `window.violations = undefined;
			axe.run(document, `+rules+`).then(({violations}) => {
				window.violations = violations.map(({id, impact, help, nodes}) => impact + ": " + id + ": " + help + ": " +
					nodes.slice(0, 3).map(({html, any}) => html.slice(0, 160) + " " + (any[0]?.message ?? "")).join(" | "));
			}, (error) => { window.violations = [String(error)]; })`)
		page.Wait(t, soon, `window.violations !== undefined`)
		text, err := chromedp.Run(page.Context, chromedp.Evaluate[string](`JSON.stringify(window.violations)`))
		if err != nil {
			t.Fatal(err)
		}
		var violations []string
		if err := json.Unmarshal([]byte(text), &violations); err != nil {
			t.Fatal(err)
		}
		for _, violation := range violations {
			t.Errorf("%s, %v: %s", name, v, violation)
		}
	}
}

// checkKeyboard presses Tab until it has been everywhere: each control gets the focus, and shows it. A table that is
// drawn again meanwhile has new controls with the same keys, which replace the former ones.
func checkKeyboard(t *testing.T, page *Page, name string) {
	t.Helper()
	page.Script(t, `
		window.controls = [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex]")]
			.filter(e => e.tabIndex >= 0 && !e.disabled && e.checkVisibility({visibilityProperty: true}));
		window.missed = new Set(controls);
		window.replaces = (target, e) => !e.isConnected && e.dataset.key && e.dataset.key === target.dataset.key;
		window.faint = new Set();
		document.activeElement?.blur();
		document.addEventListener("focusin", ({target}) => {
			for (const e of missed) if (e === target || replaces(target, e)) missed.delete(e);
			const {outlineStyle, outlineWidth, opacity} = getComputedStyle(target);
			if (outlineStyle === "none" || parseFloat(outlineWidth) === 0 || opacity === "0") faint.add(target);
		});
		window.describe = (set) => [...set].slice(0, 8).map(e => e.outerHTML.slice(0, 120)).join(" | ");
		scrollTo(0, 0)`)
	count, err := chromedp.Run(page.Context, chromedp.Evaluate[int](`controls.length`))
	if err != nil || count < 3 {
		t.Fatalf("%s: %d controls (%v)", name, count, err)
	}
	for pressed := 0; pressed < count+10 && !page.Holds(t, `missed.size === 0`); pressed += 10 {
		page.Do(t, chromedp.KeyEvent(strings.Repeat("\t", 10)))
	}
	for what, set := range map[string]string{
		"Tab does not reach": "missed", "the focus cannot be seen on": "faint",
	} {
		elements, err := chromedp.Run(page.Context, chromedp.Evaluate[string](`describe(`+set+`)`))
		if err != nil {
			t.Fatal(err)
		}
		if elements != "" {
			t.Errorf("%s: %s %s", name, what, elements)
		}
	}
}

// The demo page, pages of the documentation and the console can be read and used by everybody: with a screen reader, by
// keys alone, on a phone, on dark and light screens.
func TestAccessibility(t *testing.T) {
	source := axe(t)
	page := Open(t)

	demo := newSite(t)
	demo.start(t)
	page.Do(t, chromedp.Navigate(demo.URL))
	page.Wait(t, soon, isConnected)
	page.Wait(t, soon, isSubscribed)
	page.Do(t, publish("jobs-summary", `{"n": 1}`))
	page.Wait(t, soon, listed("jobs-summary", `{"n":1}`)+" === 1")
	page.Script(t, `document.querySelector("#events summary").click()`)
	page.Wait(t, soon, `document.querySelector("#events pre") !== null && !document.querySelector("#plugin-row").hidden`)
	checkAccessibility(t, page, source, "demo", allRules, someViews)
	checkAccessibility(t, page, source, "demo", colors, moreViews)
	checkKeyboard(t, page, "demo")

	// On the same node: the console, with a group and its events.
	page.Do(t, chromedp.Navigate(demo.URL+"edgerelay/"))
	page.Wait(t, soon, `document.querySelector("#status").textContent === "ok"`)
	checkAccessibility(t, page, source, "console", allRules, someViews)
	checkAccessibility(t, page, source, "console", colors, moreViews)
	checkKeyboard(t, page, "console")

	docs := serveDocs(t)
	page.Do(t, chromedp.Navigate(docs.URL+"docs/quickstart.md"))
	page.Wait(t, soon, hasSearch)
	checkKeyboard(t, page, "docs, phone")
	someViews[0].apply(t, page)
	checkKeyboard(t, page, "docs")
	// With results of the search.
	page.Script(t, `document.querySelector("#search").focus()`)
	page.Do(t, chromedp.KeyEvent("resume"))
	page.Wait(t, soon, `document.querySelectorAll("#results [role=option]").length > 3`)
	checkAccessibility(t, page, source, "docs, search", allRules, someViews[:1])
	if problems := page.Problems(); len(problems) > 0 {
		t.Errorf("the browser's console: %q", problems)
	}
}

const hasSearch = `document.querySelector(".search") && !document.querySelector(".search").hidden`

// Every page of the documentation can be read by everybody.
func TestEveryPageOfTheDocsIsAccessible(t *testing.T) {
	source := axe(t)
	docs := serveDocs(t)
	page := Open(t)
	page.Do(t, chromedp.Navigate(docs.URL))
	links, err := chromedp.Run(page.Context,
		chromedp.Evaluate[[]string](`[...document.querySelectorAll(".side a")].map(a => a.href)`))
	if err != nil || len(links) < 5 {
		t.Fatalf("the navigation has %q (%v)", links, err)
	}
	for some := range slices.Chunk(links, 6) { // a browser has a limited time
		t.Run(strings.TrimPrefix(some[0], docs.URL), func(t *testing.T) {
			page := Open(t)
			for i, link := range some { // all pages have one style, so each of them needs one view alone
				page.Do(t, chromedp.Navigate(link))
				page.Wait(t, soon, hasSearch)
				view := someViews[i%len(someViews):][:1]
				checkAccessibility(t, page, source, strings.TrimPrefix(link, docs.URL), allRules, view)
			}
			if problems := page.Problems(); len(problems) > 0 {
				t.Errorf("the browser's console: %q", problems)
			}
		})
	}
}
