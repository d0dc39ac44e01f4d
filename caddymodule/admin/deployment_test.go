package admin

import (
	"bytes"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
)

func TestReadChange(t *testing.T) {
	hash := strings.Repeat("0a", 32)
	for name, c := range map[string]struct {
		query, match string
		want         pluginhost.Change
		err          string
	}{
		"nothing":      {"", "", pluginhost.Change{}, ""},
		"everything":   {"?by=alice&message=a%20b&to=3&force=true", `"` + hash + `"`, pluginhost.Change{By: "alice", Message: "a b", To: 3, Force: true, Expect: []string{hash}}, ""},
		"several":      {"", hash + `, "*"`, pluginhost.Change{Expect: []string{hash, "*"}}, ""},
		"empty match":  {"", `""`, pluginhost.Change{}, "invalid If-Match"},
		"blank match":  {"", ` `, pluginhost.Change{}, "If-Match is empty"},
		"short match":  {"", `"abc"`, pluginhost.Change{}, "64 hexadecimal digits"},
		"weak match":   {"", `W/"` + hash + `"`, pluginhost.Change{}, "invalid If-Match"},
		"unknown":      {"?who=alice", "", pluginhost.Change{}, `unknown parameter "who"`},
		"version zero": {"?to=0", "", pluginhost.Change{}, "invalid to"},
		"force":        {"?force=yes", "", pluginhost.Change{}, "invalid force"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/"+c.query, nil)
			if c.match != "" {
				r.Header.Set("If-Match", c.match)
			}
			got, err := readChange(r, "to", "force")
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("got %v, want %q", err, c.err)
				}
				return
			}
			if err != nil || got.By != c.want.By || got.Message != c.want.Message || got.To != c.want.To ||
				got.Force != c.want.Force || !slices.Equal(got.Expect, c.want.Expect) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestReadDeployment(t *testing.T) {
	form := func(parts ...string) (string, string) {
		var body bytes.Buffer
		w := multipart.NewWriter(&body)
		for i := 0; i < len(parts); i += 2 {
			if err := w.WriteField(parts[i], parts[i+1]); err != nil {
				t.Fatal(err)
			}
		}
		_ = w.Close()
		return w.FormDataContentType(), body.String()
	}
	read := func(kind, body string) (string, pluginhost.Change, error) {
		r := httptest.NewRequest(http.MethodPut, "/", strings.NewReader(body))
		r.Header.Set("Content-Type", kind)
		var c pluginhost.Change
		wasm, err := readDeployment(httptest.NewRecorder(), r, &c)
		return string(wasm), c, err
	}
	for _, kind := range []string{"application/wasm", "", "application/x-www-form-urlencoded"} {
		if wasm, _, err := read(kind, "module"); wasm != "module" || err != nil {
			t.Errorf("%s: %q, %v", kind, wasm, err)
		}
	}
	wasm, c, err := read(form("module", "module", "settings", `{"fuel": 1}`, "by", "alice", "message", "why"))
	if wasm != "module" || string(c.Settings) != `{"fuel": 1}` || c.By != "alice" || c.Message != "why" || err != nil {
		t.Errorf("got %q, %+v, %v", wasm, c, err)
	}
	for want, parts := range map[string][]string{
		"no part module":        {"settings", "{}"},
		`two parts "module"`:    {"module", "a", "module", "b"},
		`unknown part "colour"`: {"module", "a", "colour", "red"},
		"too large":             {"module", strings.Repeat("x", maxModuleBytes+maxSettingsBytes+1<<17)},
	} {
		if _, _, err := read(form(parts...)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, _, err := read("multipart/form-data", "x"); err == nil {
		t.Error("a form without a boundary is read")
	}
}
