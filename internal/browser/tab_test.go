package browser

import (
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// Tab is a page in some browser.
type Tab interface {
	// Go loads a page.
	Go(t testing.TB, url string)
	// Value returns the value of a JavaScript expression as a string.
	Value(t testing.TB, expression string) string
	// Wait waits until a JavaScript expression is true. After the time limit the test fails.
	Wait(t testing.TB, within time.Duration, expression string)
}

// waitFor is Wait for a tab whose browser cannot wait.
func waitFor(t testing.TB, tab Tab, within time.Duration, expression string) {
	t.Helper()
	testkit.EventuallyWithin(t, within, expression, func() error {
		if value := tab.Value(t, "!!("+expression+")"); value != "true" {
			return fmt.Errorf("%s", value)
		}
		return nil
	})
}

// Tab opens another tab in the same browser.
func (p *Page) Tab(t testing.TB) Tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(p.Context)
	t.Cleanup(cancel)
	tab := &Page{Context: ctx}
	tab.Do(t)
	return tab
}

// Go implements [Tab].
func (p *Page) Go(t testing.TB, url string) {
	t.Helper()
	p.Do(t, chromedp.Navigate(url))
}

// Value implements [Tab].
func (p *Page) Value(t testing.TB, expression string) string {
	t.Helper()
	value, err := chromedp.Run(p.Context, chromedp.Evaluate[string]("String("+expression+")"))
	if err != nil {
		t.Fatalf("%s: %v; console: %q", expression, err, p.Problems())
	}
	return value
}
