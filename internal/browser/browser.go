// Package browser gives tests a real Chromium, driven over its DevTools protocol.
package browser

import (
	"context"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// limit bounds all actions on one page of a test.
const limit = 2 * time.Minute

// Page is the only tab of a browser with an empty profile.
type Page struct {
	// Context is the context for chromedp.Do and chromedp.Run. It ends with the test.
	Context context.Context

	mu       sync.Mutex
	problems []string
}

// Open starts Chromium with a blank tab until the end of the test. A missing Chromium fails the test, with the install
// command. More options may add flags.
func Open(t testing.TB, more ...chromedp.ExecAllocatorOption) *Page {
	t.Helper()
	program, err := find()
	if err != nil {
		t.Fatal(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program),
		chromedp.NoSandbox, // Chromium refuses to run as root with it
		chromedp.UserDataDir(t.TempDir()),
		chromedp.WSURLReadTimeout(time.Minute), // a cold start on a busy machine
	)
	options = append(options, more...)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	ctx, cancelProgram := chromedp.NewExecAllocator(ctx, options...)
	ctx, cancelTab := chromedp.NewContext(ctx)
	page := &Page{Context: ctx}
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("starting %s: %v", program, err)
	}
	var listening sync.WaitGroup
	messages := chromedp.Console(ctx)
	listening.Go(func() { page.listen(messages) })
	t.Cleanup(func() {
		// Wait for the end of the browser, so that the profile can be removed.
		if err := chromedp.Cancel(ctx); err != nil {
			t.Logf("closing Chromium: %v", err)
		}
		cancelTab()
		cancelProgram()
		cancel()
		listening.Wait()
	})
	return page
}

func find() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if program, err := exec.LookPath(name); err == nil {
			return program, nil
		}
	}
	return "", fmt.Errorf("no Chromium in PATH: apt-get install -y chromium")
}

// listen records the errors and warnings of the browser console.
func (p *Page) listen(messages iter.Seq2[chromedp.ConsoleMessage, error]) {
	for m, err := range messages {
		if err != nil {
			return // the tab is gone
		}
		switch m.Type {
		case chromedp.ConsoleLog, chromedp.ConsoleDebug, chromedp.ConsoleInfo:
			continue
		}
		p.mu.Lock()
		p.problems = append(p.problems, strings.TrimSpace(fmt.Sprintf("%s %s", m, m.URL)))
		p.mu.Unlock()
	}
}

// Problems returns and clears the errors and warnings of the console: uncaught exceptions, rejected requests, and
// messages of the page.
func (p *Page) Problems() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	problems := p.problems
	p.problems = nil
	return problems
}

// Do runs actions in order. The first failure ends the test.
func (p *Page) Do(t testing.TB, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(p.Context, actions...); err != nil {
		t.Fatalf("in the browser: %v; console: %q", err, p.Problems())
	}
}

// Script runs JavaScript without waiting for asynchronous results.
func (p *Page) Script(t testing.TB, script string) {
	t.Helper()
	if _, err := chromedp.Run(p.Context, chromedp.Evaluate[any](script+"\n;null")); err != nil {
		t.Fatalf("script: %v", err)
	}
}

// Holds tells whether a JavaScript expression is true now.
func (p *Page) Holds(t testing.TB, expression string) bool {
	t.Helper()
	holds, err := chromedp.Run(p.Context, chromedp.Evaluate[bool](expression))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return holds
}

// Wait waits until a JavaScript expression is true. After the time limit the test fails.
func (p *Page) Wait(t testing.TB, within time.Duration, expression string) {
	t.Helper()
	_, err := chromedp.Run(p.Context, chromedp.Poll[any](expression,
		chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(within)))
	if err != nil {
		text, _ := chromedp.Run(p.Context, chromedp.Evaluate[string](`document.body.innerText`))
		focus, _ := chromedp.Run(p.Context, chromedp.Evaluate[string](
			`(document.activeElement?.outerHTML.slice(0, 200) ?? "nowhere") + "; last key at " + (window.lastKey ?? "unknown")`))
		t.Fatalf("not within %v: %s: %v\nconsole: %q\nfocus: %s\npage:\n%s", within, expression, err, p.Problems(), focus, text)
	}
}

// Screenshot writes the whole page to a PNG file.
func (p *Page) Screenshot(t testing.TB, file string) {
	t.Helper()
	png, err := chromedp.Run(p.Context, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatalf("screenshot: %v", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, png, 0o644); err != nil {
		t.Fatal(err)
	}
}
