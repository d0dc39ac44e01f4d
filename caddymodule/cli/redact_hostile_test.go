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
