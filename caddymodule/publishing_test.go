package caddymodule

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/caddymodule/publishing"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

const publishSecret = "a-secret-of-32-characters-and-so"

// publish sends a body to the endpoint, and returns status and body of the answer. Headers are pairs.
func (s *site) publish(path, body string, headers ...string) (int, string) {
	s.t.Helper()
	r, err := http.NewRequest(http.MethodPost, s.addr2()+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+publishSecret)
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	r.Close = true
	resp, err := http.DefaultClient.Do(r)
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

func TestPublishOnTheSite(t *testing.T) {
	t.Setenv("EDGERELAY_TEST_KEY", publishSecret)
	file := filepath.Join(t.TempDir(), "former")
	if err := os.WriteFile(file, []byte("the-former-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSite(t)
	const key = `key shop {env.EDGERELAY_TEST_KEY} {
		previous {file.%s}
		groups jobs-* orders-*
		rate 1000
	}
	`
	directive := "edgerelay_publish {\n" + fmt.Sprintf(key, file) + "}"
	s.mustLoad("auth none", directive+"\nedgerelay\nrespond next")
	c := s.subscribe("jobs-summary")
	const path = "/edgerelay/publish"
	const message = `{"group": "jobs-summary", "text": "{\"n\":  1}", "id": "one"}`
	if status, body := s.publish(path, message); status != 200 || !strings.Contains(body, `"published":1`) {
		t.Errorf("publish: %d %s", status, body)
	}
	next(t, c, `{"n":  1}`)
	if status, body := s.publish(path+"/", `{"group": "jobs-summary", "text": "{\"n\": 2}"}`, "Authorization", "Bearer the-former-secret"); status != 200 {
		t.Errorf("with a slash and the former secret: %d %s", status, body)
	}
	next(t, c, `{"n": 2}`)
	if status, _ := s.publish(path, message, "Authorization", "Bearer x"); status != 401 {
		t.Errorf("a wrong key: %d", status)
	}
	if status, body := s.publish(path+"/x", message); status != 200 || body != "next" {
		t.Errorf("another path: %d %s", status, body)
	}

	// Idempotency keys and counters outlive the configuration.
	s.mustLoad("auth none\nlimits {\nconnections 1000\n}", directive+"\nedgerelay\nrespond other")
	if status, body := s.publish(path, message); status != 200 || !strings.Contains(body, `"deduplicated":1`) {
		t.Errorf("the same id after a reload: %d %s", status, body)
	}
	testkit.Eventually(t, "the key's status", func() error {
		keys := publishing.StateOf(node.Current()).Keys()
		if len(keys) != 1 || keys[0].Name != "shop" || keys[0].Sent != 2 || keys[0].Deduplicated != 1 || keys[0].Literal {
			return fmt.Errorf("keys %+v", keys)
		}
		return nil
	})

	// The configuration that Caddy shows has no secret.
	resp, err := http.Get("http://" + s.admin + "/config/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	config, err := io.ReadAll(resp.Body)
	if err != nil || strings.Contains(string(config), publishSecret) || !strings.Contains(string(config), "{env.EDGERELAY_TEST_KEY}") {
		t.Errorf("the configuration is %s, %v", config, err)
	}

	// A matcher, another path, and a chunked body.
	s.mustLoad("auth none", "@inside remote_ip 127.0.0.1\nedgerelay_publish @inside /send {\n"+fmt.Sprintf(key, file)+"max_body 100\n}\nedgerelay\nrespond next")
	r, err := http.NewRequest("POST", s.addr2()+"/send", nil)
	if err != nil {
		t.Fatal(err)
	}
	// The body has no known length. It is sent again if the former server closes the connection.
	r.GetBody = func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(
			strings.NewReader(`{"group": "jobs-summary", `), strings.NewReader(`"text": "{}"}`),
		)), nil
	}
	r.Body, _ = r.GetBody()
	r.ContentLength = -1
	r.Header.Set("Authorization", "Bearer "+publishSecret)
	r.Header.Set("Content-Type", "application/json")
	resp, err = http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("chunked: %d", resp.StatusCode)
	}
	if status, _ := s.publish("/send", `{"group": "jobs-summary", "text": "`+strings.Repeat("x", 100)+`"}`); status != 413 {
		t.Errorf("above max_body: %d", status)
	}
}

func TestPublishSettingsAreChecked(t *testing.T) {
	t.Setenv("EDGERELAY_TEST_KEY", publishSecret)
	s := newSite(t)
	for settings, want := range map[string]string{
		"{\n}":                        "no key; add 'key <name>",
		"{\nkey a\n}":                 "needs a name and a secret",
		"{\nkey a x\n}":               "add groups",
		"{\nkey a x {\ngroups\n}\n}":  "at least one value",
		"{\nkey a x {\ngroup *\n}\n}": `no setting "group"`,
		"{\nkey a {env.NO_SUCH_VARIABLE} {\ngroups *\n}\n}":    "key a",
		"{\nkey a {file./no/such/file} {\ngroups *\n}\n}":      "key a",
		"{\nkey a x {\ngroups *\n}\nkey b x {\ngroups *\n}\n}": "same secret",
		"publish {\nkey a x {\ngroups *\n}\n}":                 "invalid path",
		"/ {\nkey a x {\ngroups *\n}\n}":                       "invalid path",
		"/a/* {\nkey a x {\ngroups *\n}\n}":                    "invalid path",
		"/a /b {\nkey a x {\ngroups *\n}\n}":                   "rong argument count",
		"{\nkey a x {\ngroups *\nrate -1\n}\n}":                "invalid number",
		"{\nkey a x {\ngroups *\n}\nidempotency 0\n}":          "use at least 1s",
		"{\nkey a x {\ngroups *\n}\nmax_body 0\n}":             "above 0",
		"{\nkey a {env.EDGERELAY_TEST_KEY} {\ngroups [\n}\n}":  "invalid pattern",
	} {
		err := s.load(s.file("auth none", "edgerelay_publish "+settings))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(fmt.Sprint(err), publishSecret) {
			t.Errorf("%s: %v, want %q", settings, err, want)
		}
	}
}

// What operators see of the keys.
func TestPublishStatus(t *testing.T) {
	s := newSite(t)
	s.mustLoad("auth none", "edgerelay_publish {\nkey shop "+publishSecret+" {\ngroups orders-*\n}\nkey weak x {\ngroups *\n}\n}\nedgerelay")
	s.publish("/edgerelay/publish", `{"group": "orders-1", "type": "order.changed"}`)
	s.publish("/edgerelay/publish", `{"group": "jobs-1", "type": "order.changed"}`)
	s.publish("/edgerelay/publish", `{}`, "Authorization", "Bearer y")
	resp, err := http.Get("http://" + s.admin + "/edgerelay/status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var status struct {
		Publishing []publishing.KeyStatus `json:"publishing"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&status); err != nil {
		t.Fatal(err)
	}
	if k := status.Publishing; len(k) != 2 || k[0].Name != "shop" || k[0].Sent != 1 || k[0].Rejected != 1 || k[0].Used.IsZero() || k[1].Name != "weak" {
		t.Errorf("status %+v", k)
	}
	metrics := s.scrape()
	for _, c := range [][]string{
		{"edgerelay_publications_total", "key=shop", "result=sent"},
		{"edgerelay_publish_rejected_total", "key=shop", "reason=group"},
		{"edgerelay_publish_rejected_total", "key=", "reason=unauthorized"},
	} {
		if got := metrics.value(c[0], c[1:]...); got < 1 {
			t.Errorf("%q is %v, want 1", c, got)
		}
	}
	_, diagnosis := s.post("/edgerelay/doctor", "")
	for _, want := range []string{"weak", "written in the configuration"} {
		if !strings.Contains(diagnosis, want) {
			t.Errorf("the diagnosis does not mention %q: %s", want, diagnosis)
		}
	}
	if strings.Contains(diagnosis, publishSecret) {
		t.Error("the diagnosis has the secret")
	}
}
