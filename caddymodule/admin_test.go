package caddymodule

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

func (s *site) get(url string) (int, string) {
	s.t.Helper()
	var resp *http.Response
	err := again(func() (err error) {
		resp, err = http.Get(url)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestAdminPublish(t *testing.T) {
	s := newSite(t)
	s.mustLoad("auth none", "edgerelay")
	c := s.subscribe("jobs-summary")
	tooLong := `{"group": "` + strings.Repeat("x", 100) + `", "data": 1}`
	for body, want := range map[string]int{
		``: 400, `{`: 400, `[]`: 400, `null`: 400, `{}`: 400, `"x"`: 400,
		`{"group": "jobs-summary"}`:                         400,
		`{"data": 1}`:                                       400,
		`{"group": "", "data": 1}`:                          400,
		`{"group": 5, "data": 1}`:                           400,
		`{"group": "a b", "data": 1}`:                       400,
		tooLong:                                             400,
		`{"group": "jobs-summary", "data": 1} x`:            400,
		`{"group": "jobs-summary", "data": 1}{}`:            400,
		`{"group": "jobs-summary", "data": {]}`:             400,
		"{\"group\": \"jobs-summary\", \"data\": \"\xff\"}": 400,
		`{"group": "jobs-summary", "data": "` + strings.Repeat("x", 16<<20) + `"}`: 413,
		`{"group": "nobody", "data": 1}`:                                           200,
		`{"group": "nobody", "type": "chat.message", "data": {}}`:                  200,
		`{"group": "nobody", "type": "chat.message", "data": 1}`:                   400,
		`{"group": "nobody", "type": "internal.message", "data": {}}`:              400,
		`{"group": "nobody", "type": "consumer.subscribe", "data": {}}`:            400,
		`{"group": "nobody", "type": "_x", "data": {}}`:                            400,
		`{"group": "nobody", "data": {"x": ""}, "binary": ["x"]}`:                  400,
		`{"group": "nobody", "type": "t", "data": {"x": ""}, "binary": ["x"]}`:     200,
		`{"group": "nobody", "type": "t", "data": {"x": "AA=="}, "binary": ["x"]}`: 200,
		`{"group": "nobody", "type": "t", "data": {"x": "!!"}, "binary": ["x"]}`:   400,
		`{"group": "nobody", "type": "t", "data": {"x": null}, "binary": ["x"]}`:   400,
		`{"group": "nobody", "type": "t", "data": {"x": 1}, "binary": ["x"]}`:      400,
		`{"group": "nobody", "type": "t", "data": {}, "binary": ["x"]}`:            400,
		`{"group": "nobody", "type": "t", "data": 1, "binary": ["x"]}`:             400,
	} {
		if status, answer := s.post("/edgerelay/publish", body); status != want || answer == "" {
			t.Errorf("%.100q: %d %.200s, want %d", body, status, answer, want)
		}
	}
	// The data's text arrives byte for byte.
	for _, data := range []string{`null`, `1.50`, `"\u00e4ä"`, `{"b":1,  "a" : [1e2, 1E2, 0.10], "b": 2}`, "{\n\t\"x\": 1\n}", `"` + strings.Repeat("é", 1<<20) + `"`} {
		if status, answer := s.post("/edgerelay/publish", `{"group": "jobs-summary", "data": `+data+`}`); status != 200 {
			t.Fatal(status, answer)
		}
		next(t, c, data)
	}
	if status, answer := s.post("/edgerelay/publish", `{"group": "jobs-summary", "type": "chat.message", "data": {"a": 1}}`); status != 200 {
		t.Fatal(status, answer)
	}
	if status, answer := s.post("/edgerelay/publish", `{"group": "jobs-summary", "data": "end"}`); status != 200 {
		t.Fatal(status, answer)
	}
	next(t, c, `"end"`) // AWX's clients get no messages with a type
	if status, _ := s.get("http://" + s.admin + "/edgerelay/publish"); status != 405 {
		t.Errorf("GET publish: %d", status)
	}
}

func TestHealthAndMetrics(t *testing.T) {
	s := newSite(t)
	const site = "edgerelay\nedgerelay_health\nhandle /metrics {\nmetrics\n}\nrespond next"
	for range 2 { // the second time after a reload
		s.mustLoad("auth none", site)
		_ = s.subscribe("jobs-summary")
		for _, url := range []string{"http://" + s.admin + "/edgerelay/health", "http://" + s.admin + "/edgerelay/health/ready", "http://" + s.addr + "/health"} {
			if status, body := s.get(url); status != 200 || !strings.Contains(body, `"status":"ok"`) {
				t.Errorf("%s: %d %s", url, status, body)
			}
		}
		for _, url := range []string{"http://" + s.admin + "/metrics", "http://" + s.addr + "/metrics"} {
			if status, body := s.get(url); status != 200 || !strings.Contains(body, "edgerelay_connections ") || !strings.Contains(body, "edgerelay_channel_layer_up 1") {
				t.Errorf("%s: %d, without our metrics:\n%.2000s", url, status, body)
			}
		}
		if status, _ := s.post("/edgerelay/health", ""); status != 405 {
			t.Errorf("POST health: %d", status)
		}
		if resp, err := http.Post("http://"+s.addr+"/health", "", nil); err != nil {
			t.Error(err)
		} else {
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if string(body) != "next" {
				t.Errorf("POST /health of the site: %s", body)
			}
		}
	}
	// A layer that cannot be reached: 503, and in public no address.
	down := fmt.Sprint("127.0.0.1:", testkit.FreePort(t))
	s.mustLoad("auth none\nchannel_layer redis redis://:hunter2@"+down, site)
	if status, body := s.get("http://" + s.addr + "/health"); status != 503 || strings.Contains(body, down) {
		t.Errorf("public health without Redis: %d %s", status, body)
	}
	if status, body := s.get("http://" + s.admin + "/edgerelay/health"); status != 503 || !strings.Contains(body, down) || strings.Contains(body, "hunter2") {
		t.Errorf("health without Redis: %d %s", status, body)
	}
	if status, _ := s.get("http://" + s.admin + "/edgerelay/health/live"); status != 200 {
		t.Errorf("live without Redis: %d", status)
	}
	// A configuration without the relay.
	if err := s.load(fmt.Sprintf("{\nadmin %s\npersist_config off\nlog {\noutput discard\n}\n}\n%s {\nrespond x\n}\n", s.admin, s.addr2())); err != nil {
		t.Fatal(err)
	}
	if status, body := s.get("http://" + s.admin + "/edgerelay/health"); status != 503 && status != 404 {
		t.Errorf("health without the relay: %d %s", status, body)
	}
}

// `caddy edgerelay publish` keeps the data's text.
func TestPublishCommand(t *testing.T) {
	s := newSite(t)
	s.mustLoad("auth none", "edgerelay")
	c := s.subscribe("jobs-summary")
	binary := filepath.Join(t.TempDir(), "caddy")
	if out, err := exec.Command("go", "build", "-o", binary, "./cmd/caddy").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run := func(stdin string, args ...string) (string, error) {
		cmd := exec.Command(binary, append([]string{"edgerelay", "publish", "--address", s.admin}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		return out.String(), err
	}
	const data = `{"b": 1.50,  "a":"\u00e4ä", "b": 1E2}`
	if out, err := run("", "--group", "jobs-summary", "--data", data, "--json"); err != nil || out != "{\"members\":1,\"over_capacity\":0}\n" {
		t.Errorf("%s, %v", out, err)
	}
	next(t, c, data)
	if out, err := run(" "+data+"\n", "-g", "jobs-summary", "-d", "-"); err != nil {
		t.Errorf("%s, %v", out, err)
	}
	next(t, c, data)
	for _, args := range [][]string{
		{},
		{"--group", "x"},
		{"--data", "1"},
		{"--group", "a b", "--data", "1"},
		{"--group", "x", "--data", "text"},
		{"--group", `x", "data": 2, "y": "`, "--data", "1"},
		{"--group", "x", "--data", "1} {"},
		{"--group", "x", "--data", "1", "more"},
		{"--group", "x", "--data", "\"\xff\""},
	} {
		if out, err := run("", args...); err == nil || out == "" {
			t.Errorf("%q: %s, %v; want an error", args, out, err)
		}
	}
}

// An error about something that the configuration lacks names the remedy.
func TestAdminErrorsAboutTheConfigurationHaveRemedies(t *testing.T) {
	s := newSite(t)
	s.mustLoad("auth none", "edgerelay")
	for path, want := range map[string]string{
		"/edgerelay/peers":                      "listing the peers: the current configuration has no backplane; add 'backplane'",
		"/edgerelay/plugins/nosuch":             `finding the plugin \"nosuch\": plugin not configured; 'caddy edgerelay plugin list'`,
		"/edgerelay/plugins/nosuch/logs":        "'caddy edgerelay plugin list' shows the plugins",
		"/edgerelay/plugins/nosuch/history":     "'caddy edgerelay plugin list' shows the plugins",
		"/edgerelay/plugins/nosuch/differences": "'caddy edgerelay plugin list' shows the plugins",
		"/edgerelay/plugins/nosuch/recording":   "'caddy edgerelay plugin list' shows the plugins",
	} {
		if status, body := s.get("http://" + s.admin + path); status != 404 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s, want %q", path, status, body, want)
		}
	}
}
