package caddymodule

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/docs"
	"github.com/edgerelay/edgerelay/internal/contract"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
	"github.com/edgerelay/edgerelay/plugins"
)

// Every documented path answers as documented, and every path that answers is documented.
func TestAdminAPIKeepsItsContract(t *testing.T) {
	c := contract.New(t, docs.OpenAPI)
	var served []string
	for _, route := range (admin.Admin{}).Routes() {
		served = append(served, route.Pattern)
	}
	slices.Sort(served)
	documented := c.Paths()
	if !slices.Equal(served, documented) {
		t.Errorf("served     %q\ndocumented %q", served, documented)
	}

	s := newSite(t)
	call := func(method, path, query, body string) string {
		t.Helper()
		concrete := strings.NewReplacer("/plugins/{name}/recording", "/plugins/f/recording", "/plugins/{name}", "/plugins/p", "/groups/{name}", "/groups/jobs-summary").Replace(path)
		var answer string
		err := again(func() error {
			req, err := http.NewRequest(method, "http://"+s.admin+concrete+query, strings.NewReader(body))
			if err != nil {
				return err
			}
			req.Close = true
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			read := io.ReadAll
			if path == "/edgerelay/plugins/{name}/recording" && resp.StatusCode == 200 {
				_ = s.dial("/function/room_1/", nil).Close(1000)
			}
			if path == "/edgerelay/groups/{name}/tail" && resp.StatusCode == 200 {
				read = func(r io.Reader) ([]byte, error) { // it never ends: one event
					publish := `{"group": "jobs-summary", "data": {"a": 1}}`
					if status, answer := s.post("/edgerelay/publish", publish); status != 200 {
						return nil, fmt.Errorf("publish: %d %s", status, answer)
					}
					return bufio.NewReader(r).ReadBytes('\n')
				}
			}
			b, err := read(resp.Body)
			if err != nil {
				return err
			}
			answer = string(b)
			c.Check(method, path, resp.StatusCode, resp.Header.Get("Content-Type"), answer)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}

	// A node on which everything has happened: a client, an event, a peer that is away, a plugin that has failed.
	away := fmt.Sprint("http://127.0.0.1:", testkit.FreePort(t))
	s.mustLoad("auth none\nhistory jobs-*\nbackplane {\nsecret x\npeers "+away+"\n}\nplugin p "+pluginFile(t, "pass")+" {\ngroups jobs-*\n}\n"+
		"plugin f "+pluginFile(t, "function")+" {\njoin room_*\ngrant shared alarms\nfetch "+away+"\n}",
		"edgerelay {\npath /websocket/ /api/websocket/\nroute /function/{room}/ {\nfunction f\n}\nroute /presence/ {\ngroups jobs-summary\npresence {\nwebhook "+away+"\n}\n}\n}")
	client := s.subscribe("jobs-summary")
	call("POST", "/edgerelay/publish", "", `{"group": "jobs-summary", "data": {}}`)
	next(t, client, "{}")
	call("PUT", "/edgerelay/plugins/{name}", "", string(pluginBytes(t, "filter")))
	call("PUT", "/edgerelay/plugins/{name}", "", "no module")
	call("POST", "/edgerelay/plugins/{name}/rollback", "", "")
	call("PUT", "/edgerelay/plugins/{name}", "?by=alice&message=why", string(pluginBytes(t, "filter")))
	call("PUT", "/edgerelay/plugins/{name}", "?who=alice", "")
	call("POST", "/edgerelay/plugins/{name}/rollback", "?to=99", "")
	call("POST", "/edgerelay/plugins/{name}/rollback", "?force=maybe", "")
	call("GET", "/edgerelay/plugins/{name}/history", "", "")
	call("DELETE", "/edgerelay/plugins/{name}/deployment", "?by=alice", "")
	call("DELETE", "/edgerelay/plugins/{name}/deployment", "", "")
	call("POST", "/edgerelay/plugins/{name}/rollback", "?to=4", "")
	call("PUT", "/edgerelay/plugins/{name}", "?canary=10%25&for=10m&max_errors=5%25&max_slowdown=3x&max_differ=0.5&by=alice",
		string(pluginBytes(t, "pass")))
	call("PUT", "/edgerelay/plugins/{name}", "?canary=10%25", string(pluginBytes(t, "filter")))
	call("PUT", "/edgerelay/plugins/{name}/canary", "?share=50%25&by=bob", "")
	call("PUT", "/edgerelay/plugins/{name}/canary", "?share=500%25", "")
	call("POST", "/edgerelay/plugins/{name}/promote", "?by=bob", "")
	call("POST", "/edgerelay/plugins/{name}/promote", "", "")
	for _, query := range []string{"canary=x", "canary=0", "for=10m", "canary=1&for=soon", "canary=1&max_slowdown=x"} {
		call("PUT", "/edgerelay/plugins/{name}", "?"+query, string(pluginBytes(t, "filter")))
	}
	call("DELETE", "/edgerelay/plugins/{name}", "", "")
	call("POST", "/edgerelay/publish", "", `{"group": "a b", "data": {}}`)
	for _, query := range []string{"", "?limit=1", "?sort=slowest&user=1", "?group=jobs-summary&address=127.0.0.0/8&id=1&after=0", "?limit=0", "?sort=x", "?usr=1", "?address=x"} {
		call("GET", "/edgerelay/connections", query, "")
	}
	for _, query := range []string{"", "?limit=1&prefix=jobs&after=a", "?sort=rate", "?sort=subscribers", "?limit=1001", "?sort=x", "?x=1"} {
		call("GET", "/edgerelay/groups", query, "")
	}
	for _, query := range []string{"", "?raw=true", "?class=3", "?class=64", "?raw=x", "?x=1", "?raw=true&format=recording", "?format=x", "?since=5m", "?since=latest%202&format=recording", "?since=2006-01-02T15:04:05Z", "?since=AAAAAAAAAAAAAAAAAAAAAQ", "?since=soon"} {
		call("GET", "/edgerelay/groups/{name}/tail", query, "")
	}
	for _, query := range []string{"", "?x=1"} {
		call("GET", "/edgerelay/groups/{name}/history", query, "")
	}
	for _, query := range []string{"?connections=1&for=1m&path=/function/*&redact=address", "?connections=0", "?for=2h", "?bytes=x", "?open=x", "?x=1"} {
		call("GET", "/edgerelay/plugins/{name}/recording", query, "")
	}
	for _, query := range []string{"?since=5m", "?since=2006-01-02T15:04:05Z", "?since=AAAAAAAAAAAAAAAAAAAAAQ", "", "?since=latest%202", "?since=5m&x=1"} {
		call("GET", "/edgerelay/groups/{name}/replay", query, "")
		call("POST", "/edgerelay/groups/{name}/replay", query, "")
	}
	here := s.dial("/presence/", nil)
	for _, query := range []string{"?group=jobs-summary", "?group=jobs-summary&limit=0", "?group=a%20b", "?limit=x"} {
		call("GET", "/edgerelay/presence", query, "")
	}
	_ = here.Close(1000)
	if err := testkit.Poll(patience, nil, func() error { // it must not be closed by the call below
		if n := s.scrape().value("edgerelay_connections"); n != 1 {
			return fmt.Errorf("%v connections", n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{``, `{}`, `[]`, `{"usr": "x"}`, `{"user": "x"} x`, `{"user": "x", "code": 1006}`, `{"user": "x", "reason": "` + strings.Repeat("x", 124) + `"}`, `{"address": "x"}`} {
		if answer := call("POST", "/edgerelay/connections/close", "", body); !strings.HasPrefix(answer, `{"error":`) {
			t.Errorf("close %s: %s", body, answer)
		}
	}
	if answer := call("POST", "/edgerelay/connections/close", "", `{"address": "127.0.0.1", "group": "jobs-summary", "code": 4001, "reason": "moved"}`); answer != "{\"closed\":1}\n" {
		t.Errorf("close: %s", answer)
	}
	_, err := client.Next(patience)
	for err == nil { // the tails' events
		_, err = client.Next(patience)
	}
	if wstest.CloseCode(err) != 4001 || !strings.Contains(err.Error(), "moved") {
		t.Errorf("the client was closed with %v", err)
	}
	call("POST", "/edgerelay/doctor", "", "")
	call("POST", "/edgerelay/doctor", "?channels=0.01s", "")
	call("POST", "/edgerelay/doctor", "?channels=soon", "")
	call("POST", "/edgerelay/secrets/find", "", `{"secrets": ["s3cret-value"], "texts": ["with s3cret-value", "without"]}`)
	call("POST", "/edgerelay/secrets/find", "", `{"text": ""}`)
	call("DELETE", "/edgerelay/drain", "", "")
	call("POST", "/edgerelay/drain", "", `{"pace": 1}`)
	call("POST", "/edgerelay/drain", "", `{"duration": "1h"}`)
	for _, path := range []string{"drain", "status", "overview", "health"} {
		call("GET", "/edgerelay/"+path, "", "")
	}
	call("DELETE", "/edgerelay/drain", "", "")
	for _, path := range documented { // what has not been called yet; and every path with a method that it does not have
		allowed := c.Methods(path)
		for _, method := range allowed {
			if method == "GET" && !c.Succeeded("GET", path) {
				call(method, path, "", "")
			}
			if !c.Succeeded(method, path) {
				t.Errorf("%s %s was never answered with success", method, path)
			}
		}
		resp, err := http.DefaultClient.Do(wrongMethod(t, s.admin, path))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		allows := strings.Split(resp.Header.Get("Allow"), ", ")
		slices.Sort(allows)
		if resp.StatusCode != http.StatusMethodNotAllowed || !slices.Equal(allows, allowed) {
			t.Errorf("PATCH %s: %d, allow %q", path, resp.StatusCode, allows)
		}
	}

	// The bare minimum, and a layer that is away.
	s.mustLoad("auth none\nchannel_layer redis redis://"+fmt.Sprint("127.0.0.1:", testkit.FreePort(t)), "edgerelay")
	for _, path := range []string{"status", "overview", "health", "health/ready", "health/live", "peers", "plugins", "connections", "groups", "groups/{name}/history"} {
		call("GET", "/edgerelay/"+path, "", "")
	}
	s.mustLoad("auth none", "edgerelay") // leaving a Redis that is away at the end would take longer
}

func wrongMethod(t *testing.T, admin, path string) *http.Request {
	req, err := http.NewRequest(http.MethodPatch, "http://"+admin+strings.ReplaceAll(path, "{name}", "p"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// A tail shows events as they come, counts the events that it leaves out, and a reader that stops delays no other
// client.
func TestAdminTail(t *testing.T) {
	s := newSite(t)
	s.mustLoad("auth none\nplugin p "+pluginFile(t, "pass")+" {\ngroups jobs-*\n}", "edgerelay")
	tail := func(query string) *bufio.Reader {
		resp, err := http.Get("http://" + s.admin + "/edgerelay/groups/jobs-summary/tail" + query)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return bufio.NewReaderSize(resp.Body, 1<<20)
	}
	line := func(r *bufio.Reader) (e struct {
		Data    any
		Text    string
		Dropped int
	},
	) {
		t.Helper()
		b, err := r.ReadBytes('\n')
		if err != nil || json.Unmarshal(b, &e) != nil {
			t.Fatalf("%s, %v", b, err)
		}
		return e
	}
	raw, plain := tail("?raw=true"), tail("")
	if status, body := s.post("/edgerelay/publish", `{"group": "jobs-summary", "data": {"n":
		12345678901234567890}}`); status != 200 {
		t.Fatal(status, body)
	}
	for name, r := range map[string]*bufio.Reader{"raw": raw, "plain": plain} {
		if got, err := r.ReadString('\n'); err != nil || !strings.Contains(got, `"data":{"n":12345678901234567890}`) {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}

	// A recording has the payloads byte by byte, and samples of plugins.
	recorded := tail("?raw=true&format=recording")
	for data, want := range map[string]string{
		`{"a" :  1, "b": "<"}`: `{"group":"jobs-summary","payload":{"a" :  1, "b": "<"},"source":"layer","sent":"`,
		`"{\"a\": NaN}"`:       `{"group":"jobs-summary","payload":"{\"a\": NaN}","source":"layer","sent":"`,
		"[1,\n2]":              `{"group":"jobs-summary","text":"[1,\n2]","source":"layer","sent":"`,
	} {
		if status, body := s.post("/edgerelay/publish", `{"group": "jobs-summary", "data": `+data+`}`); status != 200 {
			t.Fatal(status, body)
		}
		got, err := recorded.ReadString('\n')
		if err != nil || !strings.HasPrefix(got, want) {
			t.Errorf("%s is recorded as %s, %v", data, got, err)
		}
		sample, err := plugins.ParseSample([]byte(got), "test")
		if err != nil || sample.Group != "jobs-summary" || sample.Source != "layer" || sample.Sent.IsZero() ||
			sample.Clock.Before(sample.Sent) {
			t.Errorf("%s is the sample %+v, %v", got, sample, err)
		}
		for _, r := range []*bufio.Reader{raw, plain} {
			line(r)
		}
	}

	// No client reads raw: events that the sockets do not hold are dropped after a while, and publishing goes on.
	large := `{"group": "jobs-summary", "data": "` + strings.Repeat("x", 1<<20) + `"}`
	const sent = 24
	for range sent {
		if status, body := s.post("/edgerelay/publish", large); status != 200 {
			t.Fatal(status, body)
		}
	}
	got, dropped := 0, 0
	for got+dropped < sent {
		e := line(raw)
		dropped += e.Dropped
		if e.Data != nil {
			got++
		}
	}
	if dropped == 0 {
		t.Errorf("%d events of 1 MiB fitted", got)
	}
}
