package caddymodule

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/edgerelay/edgerelay/caddymodule/telemetry"
	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// families are the metrics of a scrape by name.
type families map[string]*dto.MetricFamily

// scrape reads the metrics of the admin API, as Prometheus does.
func (s *site) scrape() families {
	s.t.Helper()
	status, body := s.get("http://" + s.admin + "/metrics")
	if status != 200 {
		s.t.Fatalf("metrics: %d %s", status, body)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	all, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		s.t.Fatalf("metrics cannot be parsed: %v", err)
	}
	maps.DeleteFunc(all, func(name string, _ *dto.MetricFamily) bool {
		return !strings.HasPrefix(name, "edgerelay_") && !strings.HasPrefix(name, "awx_")
	})
	return all
}

// value is that of the first metric with some labels, "name=value"; -1 if there is none. Of a histogram it is the
// count.
func (f families) value(name string, labels ...string) float64 {
	for _, m := range f[name].GetMetric() {
		has := map[string]bool{}
		for _, l := range m.GetLabel() {
			has[l.GetName()+"="+l.GetValue()] = true
		}
		if slices.ContainsFunc(labels, func(l string) bool { return !has[l] }) {
			continue
		}
		switch f[name].GetType() {
		case dto.MetricType_COUNTER:
			return m.GetCounter().GetValue()
		case dto.MetricType_HISTOGRAM:
			return float64(m.GetHistogram().GetSampleCount())
		default:
			return m.GetGauge().GetValue()
		}
	}
	return -1
}

// sum adds up all of a family.
func (f families) sum(name string) (total float64) {
	for _, m := range f[name].GetMetric() {
		total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	return total
}

// keySetServer is an issuer with one key, of RFC 8037, and returns the address of its key set.
func keySetServer(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// busySite is a site in which every metric has a reason to be there: Redis, AWX's API, a backplane with a peer that is
// not there, plugins.
func busySite(t *testing.T) (*site, *awxAPI) {
	api, redis, s := newAWXAPI(t), peers.StartRedis(t), newSite(t)
	s.mustLoad(fmt.Sprintf(`channel_layer redis %s
auth awx %s
awx_metrics on
history jobs-*
backplane {
	secret s3cret
	peers http://127.0.0.1:%d
}
plugin pass %s {
	fetch https://hooks.example.com
	groups plugged-*
	grant shared alarms
}
plugin twin %s {
	shadow pass
}`, redis.URL, api.URL, testkit.FreePort(t), pluginFile(t, "pass"), pluginFile(t, "pass")), "edgerelay_publish {\nkey shop "+publishSecret+" {\ngroups *\n}\n}\n"+
		"edgerelay {\npath /websocket/ /api/websocket/\nroute /backend/ {\nmessages backend http://127.0.0.1:9\n}\n"+
		"route /presence/ {\ngroups room\npresence {\n}\n}\nroute /ws/ {\ngroups news\n}\n"+
		"route /jwt/ {\nauth jwt {\njwks "+keySetServer(t)+"\n}\ngroups news\n}\n}")
	testkit.Eventually(t, "the backplane knows of its peer", func() error { // found after the start, beside it
		if s.scrape()["edgerelay_backplane_peers"] == nil {
			return errors.New("no peer in a scrape")
		}
		return nil
	})
	return s, api
}

var login = http.Header{"Cookie": {"csrftoken=t; awx_sessionid=alice"}}

func TestMetricsAddUp(t *testing.T) {
	s, api := busySite(t)
	alice, again := s.dial("/websocket/", login), s.dial("/websocket/", login)
	root := s.dial("/websocket/", http.Header{"Cookie": {"csrftoken=t; awx_sessionid=root"}})
	next(t, alice, `{"accept": true, "user": 7}`)
	next(t, again, `{"accept": true, "user": 7}`)
	next(t, root, `{"accept": true, "user": 1}`)
	const groups = `{"groups": {"job_events": [42, 13], "jobs": ["summary"], "plugged": ["x"]}, "xrftoken": "%s"}`
	for _, c := range []*wstest.Client{alice, again, root} {
		if err := c.Send(fmt.Sprintf(groups, "t")); err != nil {
			t.Fatal(err)
		}
		next(t, c, `{"error": "access denied to channel job_events for resource id 13"}`)
		if got, err := c.Next(patience); err != nil || !strings.Contains(got, `"groups_joined": ["job_events-42"`) {
			t.Fatal(got, err)
		}
	}
	if err := root.Send(fmt.Sprintf(groups, "wrong")); err != nil {
		t.Fatal(err)
	}
	next(t, root, `{"error": "access denied to channel"}`)
	if resp, _ := s.ask("/websocket/", "Cookie: awx_sessionid=nobody"); resp.StatusCode != 101 { // is told {"close": true}
		t.Fatal(resp.Status)
	}
	if resp, _ := s.ask("/websocket/", "Origin: https://evil.example"); resp.StatusCode != 403 {
		t.Fatal(resp.Status)
	}
	if resp, _ := s.ask("/websocket/", "Sec-WebSocket-Version: 12"); resp.StatusCode != 426 {
		t.Fatal(resp.Status)
	}
	before := s.scrape()
	const events = 40
	for i := range events {
		group := []string{"jobs-summary", "job_events-42", "plugged-x"}[i%3]
		if status, body := s.post("/edgerelay/publish", fmt.Sprintf(`{"group": %q, "data": %d}`, group, i)); status != 200 {
			t.Fatal(status, body)
		}
	}
	if err := root.Close(1000); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*wstest.Client{alice, again} {
		for range events {
			if _, err := c.Next(patience); err != nil {
				t.Fatal(err)
			}
		}
	}
	var f families
	testkit.Eventually(t, "every event is accounted for", func() error {
		f = s.scrape()
		in := f.sum("edgerelay_events_total") - before.sum("edgerelay_events_total")
		out := f.sum("edgerelay_events_fanned_out_total") + f.sum("edgerelay_events_dropped_total") -
			before.sum("edgerelay_events_fanned_out_total") - before.sum("edgerelay_events_dropped_total")
		if in < events || in != out {
			return fmt.Errorf("%v events in, %v fanned out or dropped", in, out)
		}
		handed := f.sum("edgerelay_deliveries_total") + f.sum("edgerelay_deliveries_missed_total")
		if lag := f.value("edgerelay_delivery_lag_seconds"); handed < 2*events || lag != handed {
			return fmt.Errorf("%v deliveries and misses, %v in the histogram of lags", handed, lag)
		}
		if n := f.value("edgerelay_connections"); n != 2 {
			return fmt.Errorf("%v connections", n)
		}
		return nil
	})
	for _, want := range []struct {
		name   string
		labels []string
		value  float64
	}{
		{"edgerelay_sessions", []string{"user=user"}, 2},
		{"edgerelay_sessions", []string{"user=superuser"}, 0},
		{"edgerelay_connections_opened_total", nil, 3},
		{"edgerelay_connections_ended_total", []string{"reason=not_logged_in"}, 1},
		{"edgerelay_connections_ended_total", []string{"reason=origin"}, 1},
		{"edgerelay_connections_ended_total", []string{"reason=bad_handshake"}, 1},
		{"edgerelay_connections_ended_total", []string{"reason=slow_reader"}, 0},
		{"edgerelay_client_messages_total", []string{"result=ok"}, 3},
		{"edgerelay_client_messages_total", []string{"result=refused"}, 1},
		{"edgerelay_subscriptions_total", []string{"result=allowed"}, 9},
		{"edgerelay_subscriptions_total", []string{"result=denied"}, 3},
		{"edgerelay_groups", nil, 3},
		{"edgerelay_channel_layer_up", nil, 1},
		{"edgerelay_channel_layer_reconnects_total", nil, 0},
		{"edgerelay_delivery_clock_skew_total", nil, 0},
		{"edgerelay_slow_sockets", nil, 0},
		{"edgerelay_auth_lookups_total", []string{"about=user", "source=request"}, 3}, // alice, root, nobody
		{"edgerelay_auth_responses_total", []string{"about=user", "result=yes"}, 2},
		{"edgerelay_auth_responses_total", []string{"about=user", "result=no"}, 1},
		{"edgerelay_backplane_peers", []string{"dialect="}, 1},
		{"edgerelay_plugin_calls_total", []string{"plugin=pass"}, 13},
		{"edgerelay_plugin_verdicts_total", []string{"plugin=pass", "verdict=pass"}, 13},
		{"edgerelay_plugin_shadow_total", []string{"plugin=twin", "result=same"}, 13},
		{"awx_127_0_0_1_messages_received_total", nil, 0},
		{"awx_127_0_0_1_connection", []string{"awx_127_0_0_1_connection=disconnected"}, 1},
	} {
		if got := f.value(want.name, want.labels...); got != want.value {
			t.Errorf("%s%q is %v, want %v", want.name, want.labels, got, want.value)
		}
	}
	requests := f.value("edgerelay_auth_lookups_total", "about=user", "source=request") + f.value("edgerelay_auth_lookups_total", "about=object", "source=request")
	if n := len(api.asked()); int(requests) != n || f.sum("edgerelay_auth_responses_total") != requests {
		t.Errorf("%v requests and %v answers; the API saw %d", requests, f.sum("edgerelay_auth_responses_total"), n)
	}
	for _, name := range []string{"edgerelay_build_info", "edgerelay_delivered_bytes_total", "edgerelay_channel_layer_round_trips_total", "edgerelay_channel_layer_round_trip_seconds_total", "edgerelay_auth_request_seconds_total"} {
		if f.sum(name) <= 0 {
			t.Errorf("%s is %v", name, f.sum(name))
		}
	}
}

// documented are the rows of docs/metrics.md, by name.
func documented(t *testing.T) map[string]string {
	text, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(edgerelay_[a-z_]+)` \\|.*$").FindAllStringSubmatch(string(text), -1) {
		rows[m[1]] = m[0]
	}
	return rows
}

// The table of metrics in the documentation is what there is.
func TestMetricsAreDocumented(t *testing.T) {
	rows := documented(t)
	for _, d := range telemetry.Descriptors() {
		m := regexp.MustCompile(`fqName: "(\w+)", help: "(.*?)", .*variableLabels: \{([^}]*)\}`).FindStringSubmatch(d.String())
		if m == nil {
			t.Fatal("what Prometheus's library says of a metric has another form now:", d)
		}
		kind := "gauge"
		if strings.HasSuffix(m[1], "_total") {
			kind = "counter"
		} else if m[1] == "edgerelay_delivery_lag_seconds" || m[1] == "edgerelay_plugin_call_seconds" ||
			m[1] == "edgerelay_plugin_fetch_seconds" {
			kind = "histogram"
		}
		labels := ""
		if m[3] != "" {
			labels = "`" + strings.ReplaceAll(m[3], ",", "` `") + "`"
		}
		want := fmt.Sprintf("| `%s` | %s | %s | %s |", m[1], kind, labels, m[2])
		if rows[m[1]] != want {
			t.Errorf("docs/metrics.md should say\n%s", want)
		}
		delete(rows, m[1])
	}
	for name := range rows {
		t.Errorf("docs/metrics.md has %s, which does not exist", name)
	}
}

// A scrape has every metric, of the documented kind.
func TestMetricsAreThere(t *testing.T) {
	s, _ := busySite(t)
	client := s.dialRoute("/ws/", login)
	s.emit("news", "without.rule", "{}")
	testkit.Eventually(t, "the event is counted", func() bool { return s.scrape().sum("edgerelay_route_types_without_rule_total") == 1 })
	client.send("ignored")
	f := s.scrape()
	for name, row := range documented(t) {
		switch family := f[name]; {
		case slices.Contains([]string{"edgerelay_backplane_dropped_total", "edgerelay_backplane_refused_total", "edgerelay_plugin_failures_total", "edgerelay_plugin_counter_total"}, name):
			// when something has happened
		case family == nil:
			t.Errorf("a scrape has no %s", name)
		case !strings.Contains(row, "| "+strings.ToLower(family.GetType().String())+" |"):
			t.Errorf("%s is a %v, and documented as\n%s", name, family.GetType(), row)
		}
	}
}
