package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/plugins"
)

// What plugins decide reaches browsers, for events that Python emits and for those of the admin API.
func TestPlugins(t *testing.T) {
	s := newStage(t)
	r := peers.StartRelay(t, s.withPlugins(
		plugin("filter", guest(t, "filter"), "groups job_events-* tags-*"),
		plugin("actor", guest(t, "actor"), "groups jobs-status_changed", "grant emit kv metrics clock"),
		plugin("classes", guest(t, "classes"), "groups jobs-summary jobs-secret"),
		plugin("shade", guest(t, "actor"), "groups jobs-shaded", "grant emit kv metrics clock", "shadow"),
	))
	alice, bob, admin := s.logins[peers.Alice], s.logins[peers.Bob], s.logins[peers.Admin]

	t.Run("drop", func(t *testing.T) {
		c := subscriber(t, r.URL, alice, "job_events-42")
		failed := `{"status": "failed",  "n": 2}`
		s.emitter.Send(
			peers.Event{Group: "job_events-42", Text: `{"status": "ok", "n": 1}`},
			peers.Event{Group: "job_events-42", Text: failed},
			peers.Event{Group: "job_events-42", Text: `{"n": 3}`},
			peers.Event{Group: "job_events-42", Text: `{"n": 4, "status": "failed"}`},
		)
		expect(t, c, failed, `{"n": 4, "status": "failed"}`)
		publishHTTP(t, r, "job_events-42", `{"status":"ok"}`)
		publishHTTP(t, r, "job_events-42", `{"status":"failed"}`)
		expect(t, c, `{"status":"failed"}`)
	})
	t.Run("replace", func(t *testing.T) {
		c := subscriber(t, r.URL, alice, "tags-1", "untouched-1")
		s.emitter.Send(peers.Event{Group: "tags-1", Text: `{"n": 1}`})
		expect(t, c, `{"seen":true,"n": 1}`)
		s.emitter.Send(peers.Event{Group: "untouched-1", Text: `{"n": 1}`})
		expect(t, c, `{"n": 1}`)
	})
	t.Run("split", func(t *testing.T) {
		c := subscriber(t, r.URL, alice, "jobs-status_changed")
		s.emitter.Send(peers.Event{Group: "jobs-status_changed", Text: `{"do": "split"}`})
		expect(t, c, `{"part":1}`, `{"part":2}`) // the third is for classes 1 and 2
	})
	t.Run("route to a group of which no client has the source", func(t *testing.T) {
		c := subscriber(t, r.URL, alice, "alerts-failed")
		s.emitter.Send(peers.Event{
			Group: "jobs-status_changed",
			Text:  `{"do": "route", "to": "alerts-failed", "with": "{\"alert\": 1}"}`,
		})
		expect(t, c, `{"alert": 1}`)
	})
	t.Run("classes", func(t *testing.T) {
		plain, super := subscriber(t, r.URL, alice, "jobs-summary"), subscriber(t, r.URL, admin, "jobs-summary")
		s.emitter.Send(
			peers.Event{Group: "jobs-summary", Text: `{"n": 1, "secret": "s3cret"}`},
			peers.Event{Group: "jobs-summary", Text: `{"n": 2}`},
			peers.Event{Group: "jobs-summary", Text: `{"only": "1"}`},
			peers.Event{Group: "jobs-summary", Text: `{"secret": [1, 2], "n": 3}`},
		)
		expect(t, plain, `{"n": 1, "secret": "***"}`, `{"n": 2}`, `{"secret": "***", "n": 3}`)
		expect(t, super, `{"n": 1, "secret": "s3cret"}`, `{"n": 2}`, `{"only": "1"}`, `{"secret": [1, 2], "n": 3}`)
	})
	t.Run("deny", func(t *testing.T) {
		c := subscriber(t, r.URL, bob)
		answer, err := ask(c, bob, "jobs-summary", "jobs-secret")
		if err != nil {
			t.Fatal(err)
		}
		if answer["error"] != "access denied to channel jobs for resource id secret" {
			t.Errorf("answer %v", answer)
		}
		answer, err = expectKey(c, "groups_current")
		if err != nil || fmt.Sprint(answer["groups_current"]) != "[jobs-summary]" {
			t.Errorf("answer %v, %v", answer, err)
		}
		testkit.Eventually(t, "the reason is in the log", func() error {
			if !strings.Contains(r.Log(), "bob is not to know") {
				return errors.New("it is not")
			}
			return nil
		})
	})
	t.Run("shadow", func(t *testing.T) {
		c := subscriber(t, r.URL, alice, "jobs-shaded")
		s.emitter.Send(peers.Event{Group: "jobs-shaded", Text: `{"do": "drop"}`},
			peers.Event{Group: "jobs-shaded", Text: `{"do": "pass"}`})
		expect(t, c, `{"do": "drop"}`, `{"do": "pass"}`)
		if row := pluginRowOf(t, r, "shade"); row.Same != 1 || row.Differ != 1 || !row.Shadow {
			t.Errorf("the shadow decided %d times alike and %d times differently", row.Same, row.Differ)
		}
	})
	t.Run("figures", func(t *testing.T) {
		row := pluginRowOf(t, r, "filter")
		if row.Passed != 3 || row.Dropped != 3 || row.Replaced != 1 || row.Fuel == 0 ||
			row.Hash != plugins.Hash(guestBytes(t, "filter")) {
			t.Errorf("got %+v", row)
		}
		metrics := fetch(t, r.Admin+"/metrics")
		for _, line := range []string{
			`edgerelay_plugin_verdicts_total{plugin="filter",verdict="drop"} 3`,
			`edgerelay_plugin_verdicts_total{plugin="classes",verdict="deny"} 1`,
			`edgerelay_plugin_breaker_open{plugin="filter"} 0`,
			`edgerelay_plugin_update_rejected{plugin="filter"} 0`,
			`edgerelay_plugin_shadow_total{plugin="shade",result="differ"} 1`,
		} {
			if !strings.Contains(metrics, line+"\n") {
				t.Errorf("the metrics lack %s", line)
			}
		}
		out, err := r.Command("edgerelay", "plugin", "list", "--address",
			strings.TrimPrefix(r.Admin, "http://")).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "classes  active") {
			t.Errorf("list: %v\n%s", err, out)
		}
	})
}
