package caddymodule

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// drainStatus asks /edgerelay/drain, with a method.
func (s *site) drain(method, body string) (code int, status admin.DrainStatus, text string) {
	s.t.Helper()
	req, err := http.NewRequest(method, "http://"+s.admin+"/edgerelay/drain", strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if resp.StatusCode/100 == 2 {
		if err := json.Unmarshal(b, &status); err != nil {
			s.t.Fatal(err)
		}
	}
	return resp.StatusCode, status, string(b)
}

func (s *site) health() int {
	s.t.Helper()
	code := 0
	err := again(func() error { // a reload closes what is kept alive
		resp, err := http.Get("http://" + s.addr + "/health")
		if err != nil {
			return err
		}
		code = resp.StatusCode
		return resp.Body.Close()
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return code
}

func TestDrain(t *testing.T) {
	s := newSite(t)
	s.mustLoad("auth none\ndrain 1h", "edgerelay_health\nedgerelay")
	clients := []*wstest.Client{s.subscribe("jobs-summary"), s.subscribe("jobs-summary")}
	if code, status, _ := s.drain("GET", ""); code != 200 || status.State != "off" || status.Open != 2 {
		t.Errorf("at first: %d %+v", code, status)
	}
	if code, _, text := s.drain("DELETE", ""); code != 409 || !strings.Contains(text, "no drain to cancel") {
		t.Errorf("cancelling nothing: %d %s", code, text)
	}
	for body, want := range map[string]string{
		"nonsense":            "invalid body; leave it empty or use",
		`{"duration": "-1s"}`: "use 0s to 24h",
		`{"rate": -1}`:        "rate is a number of clients a second",
		`{"pace": 1}`:         "unknown field",
	} {
		if code, _, text := s.drain("POST", body); code != 400 || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s, want %q", body, code, text, want)
		}
	}
	if code, _, _ := s.drain("PUT", ""); code != 405 {
		t.Errorf("PUT: %d", code)
	}

	// At the configured pace of an hour no client has to go yet, but no client comes any more.
	if code, status, _ := s.drain("POST", ""); code != 202 || status.State != "draining" || status.Clients != 2 || time.Until(status.Ends) < 59*time.Minute {
		t.Errorf("drain: %d %+v", code, status)
	}
	if resp, body := s.ask("/websocket/"); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, "draining") {
		t.Errorf("a new client: %s %s", resp.Status, body)
	}
	if code := s.health(); code != 503 {
		t.Errorf("health while it drains: %d", code)
	}
	if _, body := s.post("/edgerelay/publish", `{"group": "jobs-summary", "data": 1}`); !strings.Contains(body, `"members":1`) {
		t.Errorf("publish: %s", body)
	}
	for _, c := range clients {
		next(t, c, "1")
	}
	// A reload changes nothing about it; a cancellation does.
	s.mustLoad("auth none", "edgerelay_health\nedgerelay")
	if code := s.health(); code != 503 {
		t.Errorf("health after a reload: %d", code)
	}
	if code, status, _ := s.drain("DELETE", ""); code != 200 || status.State != "off" {
		t.Errorf("cancel: %d %+v", code, status)
	}
	if code := s.health(); code != 200 {
		t.Errorf("health after the cancellation: %d", code)
	}
	clients = append(clients, s.subscribe("jobs-summary"))

	if code, _, _ := s.drain("POST", `{"duration": "100ms"}`); code != 202 {
		t.Errorf("drain: %d", code)
	}
	for _, c := range clients {
		if _, err := c.Next(patience); wstest.CloseCode(err) != relay.CloseRestart {
			t.Errorf("%v, want close code 1012", err)
		}
	}
	testkit.Eventually(t, "all have gone", func() error {
		if _, status, text := s.drain("GET", ""); status.State != "drained" || status.Evicted != 3 {
			return io.ErrNoProgress
		} else if status.Open != 0 {
			t.Error(text)
		}
		return nil
	})
}

// When the relay leaves the configuration, clients leave at the configured pace, and the channel layer is left after
// them.
func TestReloadThatEndsTheRelayDrains(t *testing.T) {
	redis := peers.StartRedis(t)
	s := newSite(t)
	s.mustLoad("auth none\nchannel_layer redis "+redis.URL+"\ndrain {\nduration 600ms\n}", "edgerelay")
	var clients []*wstest.Client
	for range 20 {
		clients = append(clients, s.subscribe("jobs-summary"))
	}
	done := make(chan time.Duration, 1)
	began := time.Now()
	go func() {
		without := strings.SplitAfter(s.file("", "respond x"), "edgerelay {\n")
		file := strings.TrimSuffix(without[0], "edgerelay {\n") + strings.TrimPrefix(strings.TrimPrefix(without[1], "\n"), "\t}\n")
		if err := s.load(file); err != nil {
			t.Error(err)
		}
		done <- time.Since(began)
	}()
	for _, c := range clients {
		if _, err := c.Next(patience); wstest.CloseCode(err) != relay.CloseRestart {
			t.Errorf("%v, want close code 1012", err)
		}
	}
	if took := <-done; took < 600*time.Millisecond {
		t.Errorf("the relay ended after %v", took)
	}
	if keys := redis.Do("KEYS", "*").([]any); len(keys) > 0 {
		t.Errorf("left behind in Redis: %v", keys)
	}
}

func TestDrainConfig(t *testing.T) {
	for lines, want := range map[string]string{
		"drain x":                           "invalid duration",
		"drain 1s 2s":                       "argument",
		"drain 1s\ndrain 2s":                "drain is given twice",
		"drain {\nrate many\n}":             `invalid number "many"`,
		"drain {\nrate -1\n}":               `invalid number "-1"`,
		"drain {\nspeed 1\n}":               "it has duration and rate",
		"drain {\nduration 48h\n}":          "use 24h at most",
		"drain 30s {\nrate 200\nrate\n}":    "takes one value",
		"drain 10s {\nduration nonsense\n}": "invalid duration",
	} {
		config, err := adapt(global("auth none\n" + lines))
		if err == nil {
			err = validate(global("auth none\n" + lines))
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q; %s", lines, err, want, config)
		}
	}
	seconds := func(n int) *caddy.Duration { d := caddy.Duration(n) * caddy.Duration(time.Second); return &d }
	for _, c := range []struct {
		d    *node.Drain
		want hub.Pace
	}{
		{nil, hub.Pace{Duration: 30 * time.Second}},
		{&node.Drain{}, hub.Pace{Duration: 30 * time.Second}},
		{&node.Drain{Rate: 10}, hub.Pace{Rate: 10}},
		{&node.Drain{Duration: seconds(0)}, hub.Pace{}},
		{&node.Drain{Duration: seconds(5), Rate: 10}, hub.Pace{Duration: 5 * time.Second, Rate: 10}},
	} {
		if got, err := c.d.Pace(); err != nil || got != c.want {
			t.Errorf("%+v: %+v, %v; want %+v", c.d, got, err, c.want)
		}
	}
}
