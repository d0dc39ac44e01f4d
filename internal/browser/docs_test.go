package browser

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

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
