package caddymodule

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/relay"
)

// FuzzCaddyfile gives lines to the global option: what is taken becomes JSON that the app reads again.
func FuzzCaddyfile(f *testing.F) {
	for _, lines := range []string{
		"auth none", "auth awx http://127.0.0.1:8050 {\nstrict off\ncache 5s\nrecheck off\nconcurrency 3\nsession_cookie x\n}", "auth caddy {\n}", "channel_layer redis {\nurl redis://127.0.0.1\nprefix asgi\ncapacity 1\ngroup_expiry 1s\n}", "channel_layer memory",
		"origins * https://*.example.com", "unauthenticated reject", "limits {\nframe_size 1MiB\nsubscribe_rate 1e3\nping 1s\nqueue_per_connection -1\nconnections 9999999999999999999\n}", "limits {\nframe_size 99EiB\n}",
		"backplane {\nsecret {env.X} b\npeers http://10.0.0.2\ndialect auto\nretry 1s\ndiscovery dns x\n}", "plugin redact ./x.wasm {\ngroups jobs-*\non_error drop\nfuel 1ms\nmemory 1MiB\nallow emit log kv\nconfig `{}`\n}", "plugin", "auth", "}", "{", "auth none {", "\"", "`",
	} {
		f.Add(lines)
	}
	f.Fuzz(func(t *testing.T, lines string) {
		if strings.Contains(lines, "import") { // reads files
			return
		}
		config, err := adapt(global(lines))
		if err != nil {
			return
		}
		var c caddy.Config
		if err := json.Unmarshal(config, &c); err != nil {
			t.Fatalf("%q became %s: %v", lines, config, err)
		}
		if raw := c.AppsRaw["edgerelay"]; raw != nil {
			if err := caddy.StrictUnmarshalJSON(raw, new(App)); err != nil {
				t.Errorf("%q became %s: %v", lines, raw, err)
			}
		}
	})
}

// FuzzPublication gives bodies to the admin API's publish: what is taken is a group's name and JSON text.
func FuzzPublication(f *testing.F) {
	for _, body := range []string{
		`{"group": "jobs-1", "data": {"a": 1}}`, `{"group": "jobs-1", "data": null}`, `{"group": "jobs-1"}`, `{"group": "a b", "data": 1}`, `{"group": "a", "data": 1} x`, `[]`, "", `{"group": "a", "data": "` + "\xff" + `"}`, `{"GROUP": "a", "data": 1e999}`,
		`{"data": ` + strings.Repeat("[", 10_001) + `}`,
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		p, status, err := admin.ReadPublication(strings.NewReader(body))
		if (err == nil) != (status == http.StatusOK) {
			t.Errorf("%q: %d, %v", body, status, err)
		}
		if err == nil && (!relay.ValidGroup(p.Group) || !json.Valid(p.Data) || !utf8.Valid(p.Data)) {
			t.Errorf("%q is taken as %+v", body, p)
		}
	})
}

// FuzzPaths looks for a path that is taken without ending in /websocket.
func FuzzPaths(f *testing.F) {
	for _, path := range []string{"/websocket", "/api/websocket/", "/websocket//", "/x/../websocket", "/websocket/broadcast/", "//", "/websocket%2f"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if u, err := url.ParseRequestURI(path); err == nil {
			path = u.Path
		}
		segments := strings.Split(strings.TrimSuffix(path, "/"), "/")
		if got, want := endsInWebsocket(path), len(segments) > 1 && segments[len(segments)-1] == "websocket"; got != want {
			t.Errorf("%q: %v", path, got)
		}
	})
}
