package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/plugins"
)

// An actor who may upload modules gives them no other grants or configuration: these are the administrator's. Nor does
// the actor name a registry as the module's origin.
func TestConsoleUploadsCarryNoSettings(t *testing.T) {
	k := newConsoleKit(t)
	k.setUp("auth awx "+k.awx+"\nplugin p "+pluginFile(t, "pass")+" {\ngroups none-*\n}", "actions on\nuploads on")
	for name, text := range map[string]string{
		"settings": `{"grants": ["emit", "kv"], "groups": ["*"], "config": {"a": 1}}`, "ref": "ghcr.io/trusted/plugin:1",
	} {
		var form bytes.Buffer
		parts := multipart.NewWriter(&form)
		_ = parts.WriteField(name, text)
		module, _ := parts.CreateFormField("module")
		_, _ = module.Write(pluginBytes(t, "filter"))
		_ = parts.Close()
		upload := with(k.page("root"), "Content-Type", parts.FormDataContentType())
		status, body := k.call("POST", "/edgerelay/actions/deploy?plugin=p", form.String(), upload...)
		if status != 400 || !strings.Contains(body, name) {
			t.Errorf("with %s: %d %s", name, status, body)
		}
	}
	if _, body := k.call("GET", "/edgerelay/versions?plugin=p", "", cookie("root")...); strings.TrimSpace(body) != "[]" {
		t.Errorf("versions: %s", body)
	}
}

// An action on a canary that the operator has not seen changes nothing.
func TestConsoleActionsNameTheCanary(t *testing.T) {
	k := newConsoleKit(t)
	k.setUp("auth awx "+k.awx+"\nplugin p "+pluginFile(t, "pass")+" {\ngroups none-*\n}", "actions on\nuploads on")
	deploy := func(fixture, query string) {
		status, body := k.call("POST", "/edgerelay/actions/deploy?plugin=p"+query, string(pluginBytes(t, fixture)),
			with(k.page("root"), "Content-Type", "application/wasm")...)
		if status != 200 {
			t.Fatalf("deploy: %d %s", status, body)
		}
	}
	deploy("filter", "")
	stable, gone := plugins.Hash(pluginBytes(t, "filter")), plugins.Hash(pluginBytes(t, "guard"))
	taken, _ := json.Marshal(map[string]string{"plugin": "p", "hash": stable, "candidate": gone})
	if status, body := k.act("root", "rollback", string(taken)); status != 409 || !strings.Contains(body, "has changed") {
		t.Errorf("rollback of a canary that has ended: %d %s", status, body)
	}
	deploy("guard", "&canary=10%25")
	for action, body := range map[string]string{
		"promote":  `{"plugin": "p", "candidate": "` + stable + `"}`,
		"canary":   `{"plugin": "p", "share": "50%", "candidate": "none"}`,
		"rollback": `{"plugin": "p", "candidate": "none"}`,
	} {
		if status, answer := k.act("root", action, body); status != 409 {
			t.Errorf("%s: %d %s", action, status, answer)
		}
	}
	if status, body := k.act("root", "promote", `{"plugin": "p", "hash": "`+stable+`", "candidate": "`+gone+`"}`); status != 200 {
		t.Errorf("promote: %d %s", status, body)
	}
}

// An open tail ends when its operator may not see the group any more, although the page asks for it all the time.
func TestConsoleTailsAreRechecked(t *testing.T) {
	var withdrawn atomic.Bool
	awx := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/v2/jobs/") && withdrawn.Load() {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		fmt.Fprint(w, `{"count": 1, "results": [{"id": 7, "username": "root", "is_superuser": true}]}`)
	}))
	defer awx.Close()
	s := newSite(t)
	s.mustLoad("auth awx "+awx.URL+" {\ncache 1ms\nrecheck 100ms\n}", "edgerelay\nedgerelay_console")
	poll := func() (int, string) {
		req, _ := http.NewRequest(http.MethodGet, "http://"+s.addr+"/edgerelay/tail?group=job_events-42", nil)
		req.Header.Set("Cookie", "awx_sessionid=root")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		return resp.StatusCode, resp.Status
	}
	testkit.Eventually(t, "the operator sees the group", func() error {
		if status, text := poll(); status != 200 {
			return errors.New(text)
		}
		return nil
	})
	withdrawn.Store(true)
	testkit.Eventually(t, "the tail ends", func() error {
		if status, text := poll(); status != 403 {
			return errors.New(text)
		}
		return nil
	})
}
