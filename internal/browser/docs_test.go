package browser

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// The documentation as `make docs` builds it and docs/Caddyfile serves it: every page can be reached and fits its screen.
func TestDocs(t *testing.T) {
	pictures := os.Getenv("EDGERELAY_SCREENSHOTS")
	out := filepath.Join(t.TempDir(), "docs")
	build := exec.Command("go", "run", "./internal/docs", "site", out)
	build.Dir = filepath.Join("..", "..")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the site: %v\n%s", err, said)
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	s := &site{
		URL: fmt.Sprintf("http://127.0.0.1:%d/", port), program: caddy(t),
		config: filepath.Join(t.TempDir(), "Caddyfile"), home: t.TempDir(),
	}
	config := strings.NewReplacer(":8014 {", fmt.Sprintf(":%d {\n\tbind 127.0.0.1", port), "root bin/docs", "root "+out).Replace(string(text))
	if err := os.WriteFile(s.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	page := Open(t)
	page.Do(t, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(s.URL))
	links, err := chromedp.Run(page.Context, chromedp.Evaluate[[]string](`[...document.querySelectorAll(".side a")].map(a => a.href)`))
	if err != nil || len(links) < 5 {
		t.Fatalf("the navigation has %q (%v)", links, err)
	}
	for _, link := range links {
		page.Do(t, chromedp.Navigate(link))
		name := strings.TrimSuffix(filepath.Base(link), ".html")
		for _, view := range []struct {
			suffix string
			width  int64
			scheme string
		}{{"", 1280, "light"}, {"-phone", 360, "dark"}} {
			page.Do(t, chromedp.EmulateViewport(view.width, 900), prefers(view.scheme))
			if !page.Holds(t, `document.querySelector("main h1") !== null && document.title !== "Not found · edgerelay"`) {
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
		// A reader who follows a link of the menu on a telephone gets there.
		page.Do(t, chromedp.Click(chromedp.CSS(".menu summary")))
		if !page.Holds(t, `document.querySelector(".menu a[aria-current]").checkVisibility()`) {
			t.Errorf("%s: the menu does not show where one is", link)
		}
	}
	if problems := page.Problems(); len(problems) > 0 {
		t.Errorf("the browser's console: %q", problems)
	}
	page.Do(t, chromedp.Navigate(s.URL+"docs/none.html"))
	page.Wait(t, soon, `document.querySelector("main h1").textContent === "Not found"`)
}
