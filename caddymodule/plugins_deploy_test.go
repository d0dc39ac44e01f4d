package caddymodule

import (
	"bytes"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Placeholders for secrets stay in the configuration, which Caddy shows and saves.
func TestSecretsStayPlaceholders(t *testing.T) {
	t.Setenv("PLUGIN_TOKEN", "hunter2")
	block := "plugin p " + pluginFile(t, "pass") + " {\ngroups *\nconfig `{\"token\": \"{env.PLUGIN_TOKEN}\"}`\n}"
	config, err := adapt(global("auth none\n" + block))
	if err != nil || !bytes.Contains(config, []byte(`{env.PLUGIN_TOKEN}`)) || bytes.Contains(config, []byte("hunter2")) {
		t.Errorf("got %s, %v", config, err)
	}
	if err := validate(global("auth none\n" + block)); err != nil {
		t.Error(err)
	}
	err = validate(global("auth none\n" + strings.ReplaceAll(block, "PLUGIN_TOKEN", "PLUGIN_NONE")))
	if err == nil || !strings.Contains(err.Error(), "config.token: {env.PLUGIN_NONE}: the environment variable is not set") {
		t.Errorf("a missing secret: %v", err)
	}
}

func TestDeployWithSettingsAndExpectedHash(t *testing.T) {
	s := newSite(t)
	file := filepath.Join(t.TempDir(), "p.wasm")
	if err := os.WriteFile(file, pluginBytes(t, "pass"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.mustLoad("auth none\nplugin p "+file+" {\ngroups jobs-*\n}", "edgerelay")
	call := func(method, path, match, kind string, body []byte) (status int, text, tag string) {
		t.Helper()
		req, err := http.NewRequest(method, "http://"+s.admin+"/edgerelay/plugins/p"+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", kind)
		if match != "" {
			req.Header.Set("If-Match", match)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b), resp.Header.Get("ETag")
	}
	status, text, first := call("GET", "", "", "", nil)
	if status != http.StatusOK || len(first) != 66 {
		t.Fatalf("GET: %d %s, %s", status, text, first)
	}
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	for name, value := range map[string]string{
		"module": string(pluginBytes(t, "filter")), "settings": `{"on_error": "drop", "config": {"token": "hunter2"}}`,
		"by": "alice", "message": "why",
	} {
		if err := w.WriteField(name, value); err != nil {
			t.Fatal(err)
		}
	}
	_ = w.Close()
	status, text, second := call("PUT", "", first, w.FormDataContentType(), form.Bytes())
	if status != http.StatusOK || second == first || strings.Contains(text, "hunter2") ||
		!strings.Contains(text, `"on_error":"drop"`) || !strings.Contains(text, `"by":"alice"`) {
		t.Fatalf("PUT: %d %s, %s", status, text, second)
	}
	status, text, tag := call("PUT", "", first, "application/wasm", pluginBytes(t, "pass"))
	if status != http.StatusPreconditionFailed || tag != second || !strings.Contains(text, strings.Trim(second, `"`)) {
		t.Errorf("PUT with the former hash: %d %s, %s", status, text, tag)
	}
	for _, c := range []struct{ method, path string }{{"POST", "/rollback"}, {"DELETE", "/deployment"}, {"DELETE", ""}} {
		if status, text, _ := call(c.method, c.path, first, "", nil); status != http.StatusPreconditionFailed {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, text)
		}
	}
	status, text, tag = call("DELETE", "/deployment", second, "", nil)
	if status != http.StatusOK || tag != first || strings.Contains(text, `"on_error":"drop"`) {
		t.Errorf("DELETE: %d %s", status, text)
	}
	if _, text, _ = call("GET", "/history", "", "", nil); strings.Contains(text, "hunter2") ||
		!strings.Contains(text, `"settings":{"on_error":"drop"},"has_config":true`) {
		t.Errorf("history: %s", text)
	}
}
