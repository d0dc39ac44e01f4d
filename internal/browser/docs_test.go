package browser

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// serveDocs starts Caddy with docs/Caddyfile on a free port.
func serveDocs(t *testing.T) *site {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("http://localhost:%d", testkit.FreePort(t))
	s := &site{
		URL: address + "/", program: caddy(t), config: filepath.Join(t.TempDir(),
			"Caddyfile"), dir: root, home: t.TempDir(),
	}
	config := strings.ReplaceAll(string(text), "http://localhost:8014", address)
	if err := os.WriteFile(s.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	return s
}

// The documentation as docs/Caddyfile serves it: every page can be reached and fits its screen.
func TestDocs(t *testing.T) {
	pictures := os.Getenv("EDGERELAY_SCREENSHOTS")
	s := serveDocs(t)
	page := Open(t)
	page.Do(t, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(s.URL))
	links, err := chromedp.Run(page.Context,
		chromedp.Evaluate[[]string](`[...document.querySelectorAll(".side a")].map(a => a.href)`))
	if err != nil || len(links) < 5 {
		t.Fatalf("the navigation has %q (%v)", links, err)
	}
	for _, link := range links {
		page.Do(t, chromedp.Navigate(link))
		name := strings.TrimSuffix(filepath.Base(link), ".md")
		for _, view := range []struct {
			suffix string
			width  int64
			scheme string
		}{{"", 1280, "light"}, {"-phone", 360, "dark"}} {
			page.Do(t, chromedp.EmulateViewport(view.width, 900), prefers(view.scheme))
			if !page.Holds(t, `document.querySelector("main h1") !== null`) {
				t.Errorf("%s: no such page", link)
			}
			if page.Holds(t, `document.documentElement.scrollWidth > document.documentElement.clientWidth`) {
				t.Errorf("%s: the page is wider than its %d pixels", link, view.width)
			}
			if !page.Holds(t, `[...document.images].every(i => i.complete && i.naturalWidth > 0)`) {
				t.Errorf("%s: a picture is missing", link)
			}
			if pictures != "" {
				page.Screenshot(t, filepath.Join(pictures, "docs-"+name+view.suffix+".png"))
			}
		}
		// The menu of a telephone shows the current page.
		page.Do(t, chromedp.Click(chromedp.CSS(".menu summary")))
		if !page.Holds(t, `document.querySelector(".menu a[aria-current]").checkVisibility()`) {
			t.Errorf("%s: the menu does not show the current page", link)
		}
	}
	if problems := page.Problems(); len(problems) > 0 {
		t.Errorf("the browser's console: %q", problems)
	}
}

// The site's search by keys alone, its copy buttons, colors of code, contents and print.
func TestDocsAreHandy(t *testing.T) {
	s := serveDocs(t)
	page := Open(t)
	page.Do(t, chromedp.EmulateViewport(1400, 900), prefers("light"), chromedp.Navigate(s.URL+"docs/quickstart.md"))
	page.Wait(t, soon, `!document.querySelector(".search").hidden`)
	page.Wait(t, soon, `document.querySelectorAll("main pre").length === document.querySelectorAll("main .code button").length`)

	// A word of a Caddyfile has a color of its own, and another one on a dark screen.
	word := `getComputedStyle([...document.querySelectorAll("main .chroma .k")].find(e => e.textContent === "edgerelay")).color`
	page.Wait(t, soon, word+` !== getComputedStyle(document.querySelector("main pre code")).color`)
	page.Script(t, `window.light = `+word)
	page.Do(t, prefers("dark"))
	page.Wait(t, soon, word+` !== light`)
	page.Do(t, prefers("light"))

	// The button copies the text of its block, and nothing else.
	page.Script(t, `Object.defineProperty(navigator, "clipboard", {value: {writeText: async (text) => { window.copied = text; }}});
		document.querySelector("main .code button").click()`)
	page.Wait(t, soon, `window.copied === "make run" && document.querySelector("main .code button").textContent === "Copied"`)

	// "/", some words, the arrow keys, Enter: the section is there. Escape closes the results.
	page.Do(t, chromedp.KeyEvent("/"))
	page.Wait(t, soon, `document.activeElement.id === "search"`)
	clearSearch := `document.querySelector("#search").value = ""`
	page.Script(t, clearSearch) // the driver sends the slash as a character of its own
	page.Do(t, chromedp.KeyEvent("unknown_position"))
	page.Wait(t, soon, `document.querySelectorAll("#results [role=option] mark").length > 0`)
	page.Do(t, chromedp.KeyEvent("\x1b"))
	page.Wait(t, soon, `document.querySelector("#results").hidden`)
	page.Script(t, clearSearch)
	page.Do(t, chromedp.KeyEvent("order and duplicates"))
	page.Wait(t, soon, `document.querySelector("#results b")?.textContent.includes("Order and duplicates")`)
	page.Do(t, chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent(kb.ArrowUp))
	page.Wait(t, soon, `document.querySelector("#results [aria-selected=true]")?.id ===
		document.querySelector("#search").getAttribute("aria-activedescendant")`)
	page.Do(t, chromedp.KeyEvent("\r"))
	testkit.Eventually(t, "the page of the result", func() bool { // another page: what runs in this one fails
		at, err := chromedp.Run(page.Context, chromedp.Evaluate[string](`location.pathname + location.hash + document.readyState`))
		return err == nil && at == "/docs/client-protocol.md#order-and-duplicatescomplete"
	})

	// The contents beside a long page follow the text; a heading has a link to itself.
	page.Wait(t, soon, `document.querySelector(".contents").open &&
		document.querySelector(".contents [aria-current]")?.hash === "#order-and-duplicates"`)
	page.Wait(t, soon, `document.querySelector("h2#order-and-duplicates > .anchor").hash === "#order-and-duplicates"`)

	// Paper has the text alone.
	page.Do(t, printed())
	page.Wait(t, soon, `!document.querySelector(".side").checkVisibility() && !document.querySelector(".contents").checkVisibility() &&
		document.querySelector("main").checkVisibility()`)
	if problems := page.Problems(); len(problems) > 0 {
		t.Errorf("the browser's console: %q", problems)
	}
}

// printed shows the page as on paper.
func printed() chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"})
		return err
	})
}

var (
	reference = regexp.MustCompile(`(?:href|src)="([^"]*)"`)
	anchor    = regexp.MustCompile(` id="([^"]*)"`)
)

// Every link of every page leads to a file and, if it has one, to an anchor.
func TestDocsLinks(t *testing.T) {
	s := serveDocs(t)
	bodies := map[string]string{} // by path
	fetch := func(path string) string {
		if body, known := bodies[path]; known {
			return body
		}
		resp, err := http.Get(strings.TrimSuffix(s.URL, "/") + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, resp.Status)
		}
		bodies[path] = string(body)
		return bodies[path]
	}
	queue, seen := []string{"/docs/README.md"}, map[string]bool{}
	for len(queue) > 0 {
		path := queue[0]
		queue = queue[1:]
		if seen[path] {
			continue
		}
		seen[path] = true
		body := fetch(path)
		for _, m := range reference.FindAllStringSubmatch(body, -1) {
			link, err := (&url.URL{Path: path}).Parse(strings.ReplaceAll(m[1], "&amp;", "&"))
			if err != nil {
				t.Errorf("%s: %v", path, err)
				continue
			}
			if link.Scheme != "" {
				continue
			}
			target := fetch(link.Path)
			if strings.HasSuffix(link.Path, ".md") {
				queue = append(queue, link.Path)
			}
			if link.Fragment == "" {
				continue
			}
			found := false
			for _, a := range anchor.FindAllStringSubmatch(target, -1) {
				found = found || a[1] == link.Fragment
			}
			if !found {
				t.Errorf("%s links to %s, which has no such anchor", path, m[1])
			}
		}
	}
	if len(seen) < 20 {
		t.Errorf("only %d pages", len(seen))
	}
	// A program's source is shown and not executed; a missing page is one.
	if body := fetch("/docs/docs.go"); !strings.Contains(body, "package docs") {
		t.Errorf("docs.go: %.200s", body)
	}
	resp, err := http.Get(s.URL + "docs/none.md")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("a missing page: %s", resp.Status)
	}
}

// An address without a page answers 404, with the menu and the search, and shows no hidden file.
func TestDocsHaveAPageFor404(t *testing.T) {
	s := serveDocs(t)
	page := Open(t)
	for _, path := range []string{"docs/no-such-page.md", "no-such-page", ".git/HEAD", ".git/info/exclude"} {
		resp, err := http.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		kind := resp.Header.Get("Content-Type")
		if resp.StatusCode != http.StatusNotFound || kind != "text/html; charset=utf-8" {
			t.Errorf("%s: %d %s, want 404 as HTML", path, resp.StatusCode, kind)
		}
		page.Do(t, chromedp.Navigate(s.URL+path))
		page.Wait(t, soon, hasSearch)
		if !page.Holds(t, `document.querySelector("main").innerText.startsWith("Page not found") &&
			document.querySelectorAll(".side a").length > 5`) {
			t.Errorf("%s: no page with navigation", path)
		}
	}
	checkAccessibility(t, page, axe(t), "page not found", allRules, someViews)
	page.Do(t, chromedp.Click(chromedp.CSS("#search")), chromedp.KeyEvent("resume"))
	page.Wait(t, soon, `document.querySelectorAll("#results [role=option]").length > 3`)
}
