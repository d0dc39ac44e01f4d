package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
)

// Times of no event say nothing, and are not shown.
func TestPrintCanary(t *testing.T) {
	now := time.Now()
	c := &pluginhost.CanaryStatus{Phase: pluginhost.CanaryRunning, Here: true}
	c.Share, c.Since = 0.1, now
	c.Stable.Events, c.Stable.MedianSeconds, c.Stable.P90Seconds = 50, 1e-5, 2e-5
	var out strings.Builder
	p := &pluginhost.Status{Canary: c}
	p.Name = "redact"
	printCanary(&out, p, now)
	for _, want := range []string{
		"10% of the groups", "  candidate  no events yet\n",
		"  stable     50 events, 0 failed, half within 10µs, nine in ten within 20µs\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q lacks %q", out.String(), want)
		}
	}
}
