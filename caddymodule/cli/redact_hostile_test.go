package cli

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// Secrets in unusual places disappear, too: in the names of a plugin's own members, beside quotes in a URL, and in the
// path of a webhook. The path is a credential with many services.
func TestUnusualSecretsAreRedacted(t *testing.T) {
	const config = `{"apps": {
	  "edgerelay": {
	    "channel_layer": {"kind": "redis", "url": "redis://:it's-s3cret@redis:6379/0"},
	    "presence": {"webhooks": [{"url": "http://chat/api/v2/hooks/x4Zk9q"},
	{"url": "https://hooks.example.com/services/T0AAAAAAA/B0AAAAAAA/s3cretPathOfAWebhook24"}]},
	    "auth": {"kind": "http", "url": "http://app/relay/auth/"},
	    "plugins": [{"name": "redact", "file": "/p.wasm", "config": {"tokens": {"s3cret-name-of-a-member-1": "alice"},
	      "hook": "http://x/{file./tmp/AFolderWithALongName1234/key}/s3cretSegment0123456"}}]
	  },
	  "http": {"servers": {"srv0": {"routes": [{"handle": [
	    {"handler": "map", "defaults": ["x"], "s3cret-foreign-member-77": "y"}]}]}}}
	}}`
	out, r, err := redactConfig(json.RawMessage(config))
	if err != nil {
		t.Fatal(err)
	}
	if text := string(out); strings.Contains(text, "s3cret") {
		t.Errorf("a secret is left:\n%s", text)
	}
	for _, want := range []string{
		`"http://app/relay/auth/"`, `"redis://:[redacted]@redis:6379/0"`, `"/p.wasm"`, `"http://chat/api/v2/hooks/[redacted]"`,
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%s is missing in\n%s", want, out)
		}
	}
	if text := string(out); strings.Contains(text, "T0AAAAAAA") || strings.Contains(text, "x4Zk9") {
		t.Errorf("a short token of a path is left:\n%s", text)
	}
	if !slices.Contains(r.secrets, "T0AAAAAAA") || slices.Contains(r.secrets, "x4Zk9q") {
		t.Errorf("searched in other files: %q; want T0AAAAAAA, and not x4Zk9q, which is part of words by chance",
			r.secrets)
	}
	if slices.Contains(r.secrets, "AFolderWithALongName1234") {
		t.Error("a folder in the name of a placeholder's file counts as a secret")
	}
	for _, want := range []string{
		"it's-s3cret", "s3cretPathOfAWebhook24", "s3cret-name-of-a-member-1", "s3cretSegment0123456",
	} {
		found := false
		for _, secret := range r.secrets {
			found = found || secret == want
		}
		if !found {
			t.Errorf("%s is not searched in other files: %q", want, r.secrets)
		}
	}
}

// The parts of paths that look like tokens disappear wherever a plain setting can have a path, and are searched in other
// files. Other paths, patterns, networks and names of files stay.
func TestTokensInPathsAreRedacted(t *testing.T) {
	const config = `{"apps": {
	  "edgerelay": {
	    "start_message": "welcome, your key is s3cret0123456789abcdef",
	    "channel_layer": {"kind": "nats", "url": "nats://host:4222/T0s3cret0123456789abcdef"},
	    "plugins": [{"name": "redact", "file": "/var/lib/plugins/redact-1.2.3-linux-amd64.wasm"}]
	  },
	  "http": {"servers": {"srv0": {"routes": [
	    {"match": [{"path": ["/cb/APIs3cretabcdef0123456789", "/x/T1s3cret9*", "*s3cretabcdef0123456789*"]}], "handle": [
	      {"handler": "edgerelay_publish", "path": "/hooks/T024BE7LDs3cr3t0123456789abcdef"},
	      {"handler": "edgerelay", "path": ["/ws/9f86d081884c7d659a2feaa0c55ad015", "/ws/room/{room}/", "/api/v2/websocket/"],
	       "script_name": "/s3cret0123456789abcdef", "pattern": "^/ws/(?P<group>[0-9a-zA-Z_-]{1,64})/s3cret0123456789abcdef/$",
	       "origins": ["https://app.example.com"], "allow": ["2001:0db8:85a3:0000::/64", "10.0.0.0/8"]},
	      {"handler": "reverse_proxy", "upstreams": [{"dial": "unix//run/awx-uwsgi-24.6.1/web.sock"}]}]}]}}}
	}}`
	out, r, err := redactConfig(json.RawMessage(config))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(out), "\\u003c", "<")
	for _, secret := range []string{"s3cr", "9f86d081884c7d65"} {
		if strings.Contains(text, secret) {
			t.Errorf("a token of a path is left:\n%s", text)
		}
	}
	for _, want := range []string{
		`"/cb/[redacted]"`, `"/x/[redacted]*"`, `"*[redacted]*"`, `"/hooks/[redacted]"`, `"/ws/[redacted]"`, `"/ws/room/{room}/"`,
		`"/api/v2/websocket/"`, `"^/ws/(?P<group>[0-9a-zA-Z_-]{1,64})/[redacted]/$"`, `"2001:0db8:85a3:0000::/64"`, `"10.0.0.0/8"`,
		`"/var/lib/plugins/redact-1.2.3-linux-amd64.wasm"`, `"unix//run/awx-uwsgi-24.6.1/web.sock"`, `"nats://host:4222/[redacted]"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing in\n%s", want, text)
		}
	}
	for _, want := range []string{
		"APIs3cretabcdef0123456789", "T024BE7LDs3cr3t0123456789abcdef", "9f86d081884c7d659a2feaa0c55ad015", "T1s3cret9",
	} {
		if !slices.Contains(r.secrets, want) {
			t.Errorf("%s is not searched in other files: %q", want, r.secrets)
		}
	}
}

// Paths in the log, in the state and in metrics lose their tokens, also those that are in no configuration.
func TestTokensInOtherFilesAreRedacted(t *testing.T) {
	b := &bundle{redacted: &redactor{}}
	for _, text := range []string{
		`{"msg":"connection failed","path":"/ws/T024BE7LDs3cr3t"}`, `{"error":"Get \"https://h/x/s3cr3t0123456789ab\": EOF"}`,
		"m{route=\"/ws/s3cr3t\",result=\"ok\"} 1\n", `  "path": "/ws/s3cr3t/{room}",`,
	} {
		b.add("logs.ndjson", "", []byte(text))
	}
	b.replaceKnown()
	for i, want := range []string{
		`{"msg":"connection failed","path":"/ws/[redacted]"}`, `{"error":"Get \"https://h/x/[redacted]\": EOF"}`,
		"m{route=\"/ws/[redacted]\",result=\"ok\"} 1\n", `  "path": "/ws/[redacted]/{room}",`,
	} {
		if got := string(b.files[i].content); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
