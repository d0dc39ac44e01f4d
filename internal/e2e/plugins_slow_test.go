package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// TestSlowPluginsAreVisible: while a call of a plugin lasts, health and metrics answer and name the plugin, and events
// of other plugins' groups arrive. Events that have waited too long are dropped, and counted.
func TestSlowPluginsAreVisible(t *testing.T) {
	s := newStage(t)
	r := peers.StartRelay(t, s.withPlugins(
		plugin("slow", guest(t, "hostile/loop"), "groups slow-*", "fuel 1000000000000", "timeout 6s", "queue_age 1s",
			"on_error pass"),
		plugin("guard", guest(t, "guard"), "groups fast-*"),
	))
	login := s.logins[peers.Alice]
	slow, fast := subscriber(t, r.URL, login, "slow-1"), subscriber(t, r.URL, login, "fast-1")
	for n := range 3 {
		publishHTTP(t, r, "slow-1", fmt.Sprintf(`{"n":%d}`, n))
	}
	testkit.Eventually(t, "health names the plugin", func() error {
		var health struct{ Plugins []struct{ Name, Slow string } }
		text := fetch(t, r.Admin+"/edgerelay/health")
		if err := json.Unmarshal([]byte(text), &health); err != nil {
			return err
		}
		if p := health.Plugins; len(p) != 1 || p[0].Name != "slow" || !strings.Contains(p[0].Slow, "has waited") {
			return fmt.Errorf("health: %s", text)
		}
		return nil
	})
	metrics := fetch(t, r.Admin+"/metrics")
	publishHTTP(t, r, "fast-1", `{"secret":1}`)
	if text, err := fast.Next(patience); err != nil || text != `{"guarded":true}` {
		t.Errorf("an event of another plugin's group: %q, %v", text, err)
	}
	if row := pluginRowOf(t, r, "slow"); row.Calls != 0 {
		t.Fatalf("the call has ended: %+v", row)
	}
	if want := `edgerelay_plugin_queued_events{plugin="slow"} 3`; !strings.Contains(metrics, want) {
		t.Errorf("the metrics do not have %s:\n%s", want, metrics)
	}
	expect(t, slow, `{"n":0}`) // on_error pass, after the timeout
	testkit.Eventually(t, "the events behind are dropped and counted", func() error {
		for _, want := range []string{
			`edgerelay_plugin_dropped_slow_total{plugin="slow"} 2`, `edgerelay_plugin_failures_total{kind="timeout",plugin="slow"} 1`,
			`edgerelay_plugin_call_seconds_bucket{hook="on_event",plugin="slow",le="1"} 0`,
			`edgerelay_plugin_call_seconds_count{hook="on_event",plugin="slow"} 1`,
		} {
			if got := fetch(t, r.Admin+"/metrics"); !strings.Contains(got, want) {
				return fmt.Errorf("no %s in %s", want, got)
			}
		}
		return nil
	})
}
