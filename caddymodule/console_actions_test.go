package caddymodule

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// consoleKit is a site with a console, and AWX's API with users that log in by their names.
type consoleKit struct {
	*site
	awx, log string
}

func newConsoleKit(t *testing.T) *consoleKit {
	awx := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, err := r.Cookie("awx_sessionid")
		if err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/api/v2/jobs/42/") {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		name, _, _ := strings.Cut(session.Value, ".")
		fmt.Fprintf(w, `{"count": 1, "results": [{"id": %d, "username": %q, "is_superuser": true}]}`, len(name), name)
	}))
	t.Cleanup(awx.Close)
	return &consoleKit{newSite(t), awx.URL, filepath.Join(t.TempDir(), "log")}
}

// setUp loads a console with settings.
func (k *consoleKit) setUp(lines, settings string) {
	k.t.Helper()
	file := k.file(lines, "edgerelay\nedgerelay_console {\n"+settings+"\n}")
	if err := k.load(strings.Replace(file, "output discard", "output file "+k.log, 1)); err != nil {
		k.t.Fatal(err)
	}
}

// call sends a request with headers, as name and value in turn.
func (k *consoleKit) call(method, path, body string, headers ...string) (status int, answer string) {
	k.t.Helper()
	err := again(func() error {
		req, err := http.NewRequest(method, "http://"+k.addr+path, strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Close = true // the server is another one after a reload
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		status, answer = resp.StatusCode, string(b)
		return err
	})
	if err != nil {
		k.t.Fatal(err)
	}
	return status, answer
}

// token returns the token of a login, empty if the console gives none.
func (k *consoleKit) token(headers ...string) string {
	k.t.Helper()
	status, body := k.call("GET", "/edgerelay/session", "", headers...)
	var s struct{ Token string }
	if err := json.Unmarshal([]byte(body), &s); status != 200 || err != nil {
		k.t.Fatalf("session: %d %s", status, body)
	}
	return s.Token
}

func cookie(session string) []string { return []string{"Cookie", "awx_sessionid=" + session} }

// act carries out an action as the page does.
func (k *consoleKit) act(session, action, body string) (int, string) {
	k.t.Helper()
	return k.call("POST", "/edgerelay/actions/"+action, body, k.page(session)...)
}

// page has the headers that the page of a user sends.
func (k *consoleKit) page(session string) []string {
	return append(cookie(session), "Origin", "http://"+k.addr, "Sec-Fetch-Site", "same-origin",
		"Content-Type", "application/json", "X-Edgerelay-Token", k.token(cookie(session)...))
}

// with replaces headers; an empty value removes one.
func with(headers []string, changes ...string) (list []string) {
	for i := 0; i < len(headers); i += 2 {
		replaced := false
		for c := 0; c < len(changes); c += 2 {
			replaced = replaced || headers[i] == changes[c]
		}
		if !replaced {
			list = append(list, headers[i:i+2]...)
		}
	}
	for c := 0; c < len(changes); c += 2 {
		if changes[c+1] != "" {
			list = append(list, changes[c:c+2]...)
		}
	}
	return list
}

// A request that does not come from an actor at the console's own page is refused, and has no effect.
func TestConsoleActionsAreGuarded(t *testing.T) {
	k := newConsoleKit(t)
	k.setUp("auth awx "+k.awx, "operators root alice bob\nactions on")
	alice, bob := k.page("alice"), k.page("bob") // with tokens from when they were allowed to act
	k.setUp("auth awx "+k.awx, "operators root alice\nactions on\nactors root")
	if k.token(cookie("alice")...) != "" {
		t.Error("an operator who may not act gets a token")
	}
	good := k.page("root")
	foreign := with(good, "Cookie", "awx_sessionid=root.2")
	for name, c := range map[string]struct {
		method  string
		headers []string
		want    int
	}{
		"GET":                  {"GET", good, 405},
		"PUT":                  {"PUT", good, 405},
		"no login":             {"POST", with(good, "Cookie", ""), 401},
		"no operator":          {"POST", bob, 403},
		"read-only operator":   {"POST", alice, 403},
		"foreign origin":       {"POST", with(good, "Origin", "http://evil.example", "Sec-Fetch-Site", ""), 403},
		"opaque origin":        {"POST", with(good, "Origin", "null", "Sec-Fetch-Site", ""), 403},
		"other port":           {"POST", with(good, "Origin", "http://127.0.0.1:1"), 403},
		"cross-site":           {"POST", with(good, "Sec-Fetch-Site", "cross-site"), 403},
		"same-site":            {"POST", with(good, "Sec-Fetch-Site", "same-site"), 403},
		"address bar":          {"POST", with(good, "Sec-Fetch-Site", "none"), 403},
		"no browser":           {"POST", with(good, "Sec-Fetch-Site", "", "Origin", ""), 403},
		"no token":             {"POST", with(good, "X-Edgerelay-Token", ""), 403},
		"senseless token":      {"POST", with(good, "X-Edgerelay-Token", "AAAA"), 403},
		"token of other login": {"POST", foreign, 403},
		"form":                 {"POST", with(good, "Content-Type", "text/plain"), 415},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := k.call(c.method, "/edgerelay/actions/drain", "{}", c.headers...)
			if status != c.want {
				t.Errorf("got %d %s, want %d", status, body, c.want)
			}
			if d := node.Current().Hub.DrainStatus(); d.State != "off" {
				t.Errorf("the node is %s", d.State)
				node.Current().Hub.Undrain()
			}
		})
	}
	for action, body := range map[string]string{
		"drain": `{"rat": 1}`, "close": `{}`, "undrain": `{"a": 1}`, "replay": `{"group": "a-1"}`, "rollback": `{}`,
	} {
		if status, answer := k.act("root", action, body); status != 400 {
			t.Errorf("%s %s: %d %s", action, body, status, answer)
		}
	}
	if status, body := k.act("root", "drain", `{"duration": "1h"}`); status != 200 || !strings.Contains(body, `"state":"drained"`) {
		t.Errorf("an actor: %d %s", status, body)
	}
	if status, body := k.act("root", "undrain", `{}`); status != 200 || node.Current().Hub.DrainStatus().State != "off" {
		t.Errorf("cancel: %d %s", status, body)
	}

	k.setUp("auth awx "+k.awx, "operators root alice")
	if status, body := k.call("POST", "/edgerelay/actions/drain", "{}", good...); status != 403 || !strings.Contains(body, "actions are off") {
		t.Errorf("without the setting: %d %s", status, body)
	}
	k.setUp("auth awx "+k.awx, "operators root\nactions on")
	if status, _ := k.call("POST", "/edgerelay/actions/deploy?plugin=p", "", good...); status != 403 {
		t.Errorf("without uploads: %d", status)
	}
	if node.Current().Hub.DrainStatus().State != "off" {
		t.Error("the node drains")
	}
	for settings, want := range map[string]string{
		"actors root": "add 'actions on'", "uploads on": "add 'actions on'",
		"registries a.example": "add 'actions on'", "actions on\nregistries https://a.example": "invalid prefix",
		"actions on\nregistries a.example/b:1": "invalid prefix", "actions maybe": "on or off",
	} {
		err := k.load(k.file("auth awx "+k.awx, "edgerelay_console {\n"+settings+"\n}"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", settings, err, want)
		}
	}
}

// Without a login, only addresses and localhost are hosts: another name may be a page's that is bound to this address.
func TestConsoleActionsWithoutLoginNeedAnAddress(t *testing.T) {
	k := newConsoleKit(t)
	_, port, _ := strings.Cut(k.addr, ":")
	anyHost := strings.Replace(k.file("auth none", "edgerelay\nedgerelay_console {\nactions on\n}"), k.addr2()+" {", "http://:"+port+" {\nbind 127.0.0.1", 1)
	if err := k.load(anyHost); err != nil {
		t.Fatal(err)
	}
	page := []string{"Origin", "http://" + k.addr, "Content-Type", "application/json", "X-Edgerelay-Token", k.token()}
	if status, body := k.call("POST", "/edgerelay/actions/undrain", "{}", page...); status != 409 {
		t.Errorf("by address: %d %s", status, body)
	}
	req, err := http.NewRequest(http.MethodPost, "http://"+k.addr+"/edgerelay/actions/drain", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "evil.example"
	req.Header = http.Header{
		"Origin": {"http://evil.example"}, "Content-Type": {"application/json"}, "X-Edgerelay-Token": {k.token()},
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 403 || node.Current().Hub.DrainStatus().State != "off" {
		t.Errorf("by a name: %s; the node is %s", resp.Status, node.Current().Hub.DrainStatus().State)
	}
}

// Each action reaches the engine as its author's, and the log has a line for it.
func TestConsoleActions(t *testing.T) {
	k := newConsoleKit(t)
	k.setUp("auth awx "+k.awx+"\nhistory jobs-*\nplugin p "+pluginFile(t, "pass")+" {\ngroups none-*\n}",
		"actions on\nuploads on")
	n := node.Current()
	client := func(user string) *wstest.Client {
		c := k.dial("/websocket/", http.Header{"Cookie": {"csrftoken=t; awx_sessionid=" + user}})
		next(t, c, fmt.Sprintf(`{"accept": true, "user": %d}`, len(user)))
		if err := c.Send(subscription("jobs-summary")); err != nil {
			t.Fatal(err)
		}
		next(t, c, `{"groups_current": ["jobs-summary"], "groups_left": [], "groups_joined": ["jobs-summary"]}`)
		return c
	}
	ada, _, bob := client("adaa"), client("adaa"), client("bob")
	k.post("/edgerelay/publish", `{"group": "jobs-summary", "data": 1}`)
	next(t, ada, "1")
	next(t, bob, "1")

	_, body := k.call("GET", "/edgerelay/history?group=jobs-summary", "", cookie("root")...)
	if !strings.Contains(body, `"text":"1"`) || !strings.Contains(body, `"hidden":0`) || !strings.Contains(body, `"events":1`) {
		t.Errorf("history: %s", body)
	}
	replay := `{"clients":0,"resync":0,"untold":3,`
	if _, body := k.call("GET", "/edgerelay/replay?group=jobs-summary&since=5m", "", cookie("root")...); !strings.HasPrefix(body, replay) {
		t.Errorf("the plan of a replay: %s", body)
	}
	if status, body := k.act("root", "replay", `{"group": "jobs-summary", "since": "5m"}`); status != 200 || !strings.HasPrefix(body, replay) {
		t.Errorf("replay: %d %s", status, body)
	}
	if status, body := k.act("root", "close", `{"user": "adaa", "group": "jobs-summary"}`); status != 400 {
		t.Errorf("two filters: %d %s", status, body)
	}
	if status, body := k.act("root", "close", `{"user": "adaa"}`); status != 200 || body != "{\"closed\":2}\n" {
		t.Errorf("close: %d %s", status, body)
	}
	testkit.Eventually(t, "one client stays", func() error {
		if got := n.Hub.Stats().Sessions; got != 1 {
			return fmt.Errorf("%d clients", got)
		}
		return nil
	})

	var form bytes.Buffer
	parts := multipart.NewWriter(&form)
	_ = parts.WriteField("by", "somebody else")
	module, _ := parts.CreateFormField("module")
	_, _ = module.Write(pluginBytes(t, "filter"))
	_ = parts.Close()
	upload := with(k.page("root"), "Content-Type", parts.FormDataContentType())
	if status, body := k.call("POST", "/edgerelay/actions/deploy?plugin=p&message=why&by=mallory", form.String(), upload...); status != 200 {
		t.Errorf("deploy: %d %s", status, body)
	}
	if status, body := k.call("POST", "/edgerelay/actions/deploy?plugin=p&hash="+strings.Repeat("0", 64), form.String(), upload...); status != 412 {
		t.Errorf("deploy over another module than the one seen: %d %s", status, body)
	}
	_, body = k.call("GET", "/edgerelay/versions?plugin=p", "", cookie("root")...)
	if !strings.Contains(body, `"by":"root"`) || !strings.Contains(body, `"message":"why"`) || strings.Contains(body, "else") {
		t.Errorf("versions: %s", body)
	}
	if status, body := k.act("root", "undeploy", `{"plugin": "p"}`); status != 200 {
		t.Errorf("undeploy: %d %s", status, body)
	}
	log, err := os.ReadFile(k.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"action":"close","object":"user adaa","address":"127.0.0.1","result":"2 closed"`,
		`"user":"root","user_id":"4","action":"deploy","object":"plugin p","address":"127.0.0.1","result":"deployed"`,
		`"action":"undeploy"`, `"action":"replay"`, "console action failed",
	} {
		if !strings.Contains(string(log), want) {
			t.Errorf("the log lacks %s", want)
		}
	}
}

// An operator learns nothing of a group that the operator may not see, and cannot address its clients.
func TestConsoleReplaysOnlyVisibleGroups(t *testing.T) {
	k := newConsoleKit(t)
	k.setUp("auth awx "+k.awx+"\nhistory *", "operators root\nactions on")
	for group, want := range map[string]int{"job_events-41": 200, "job_events-42": 403} {
		status, body := k.call("GET", "/edgerelay/replay?since=5m&group="+group, "", cookie("root")...)
		if status != want {
			t.Errorf("the plan of %s: %d %s, want %d", group, status, body, want)
		}
		if status, body := k.act("root", "replay", `{"group": "`+group+`", "since": "5m"}`); status != want {
			t.Errorf("a replay of %s: %d %s, want %d", group, status, body, want)
		}
	}
}

// Actions of all users together are bounded, and refusals are no actions.
func TestConsoleActionsAreBounded(t *testing.T) {
	k := newConsoleKit(t)
	k.setUp("auth awx "+k.awx, "operators root alice\nactions on\nactors root")
	page := k.page("root")
	for range 70 {
		if status, _ := k.call("POST", "/edgerelay/actions/undrain", "{}", with(page, "Cookie", "awx_sessionid=alice")...); status != 403 {
			t.Fatalf("refused: %d", status)
		}
	}
	last := 0
	for i := range 61 {
		if last, _ = k.call("POST", "/edgerelay/actions/undrain", "{}", page...); i < 60 && last != 409 {
			t.Fatalf("action %d: %d", i, last)
		}
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("one more: %d", last)
	}
}
