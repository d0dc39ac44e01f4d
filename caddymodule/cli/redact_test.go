package cli

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// Secrets disappear from a configuration, wherever Caddy or the relay keeps them. Placeholders and the structure stay.
func TestConfigIsRedacted(t *testing.T) {
	const config = `{
	  "logging": {"logs": {"default": {"writer": {"output": "net", "address": "tcp/s3cret-address-1"}}}},
	  "apps": {
	    "tls": {"automation": {"policies": [{"issuers": [{"module": "acme", "email": "s3cret-mail-12345",
	      "challenges": {"dns": {"provider": {"name": "cloudflare", "api_token": "s3cret-dns"}}}}]}]}},
	    "edgerelay": {
	      "auth": {"kind": "http", "url": "https://user:s3cret-url@app/auth?token=s3cret-query&x=#s3cret-fragment", "key": "s3cret-key"},
	      "channel_layer": {"kind": "redis", "url": "redis://:s3cret%2Fredis@redis:6379/0", "password": "{env.REDIS}",
	        "symmetric_encryption_keys": ["s3cret-a", "{file./run/key}"]},
	      "backplane": {"secret": "s3cret-plane", "secret_previous": "s3cret-before",
	        "discoveries": [{"kind": "postgres", "dsn": "host=db user=u password='s3cret dsn' dbname=x"}]},
	      "plugins": [{"name": "redact", "file": "/p.wasm", "config": {"words": ["s3cret word"], "pin": 4711, "on": true,
	        "hook": "https://hooks.example.com/{env.HOOK}"}}],
	      "limits": {"connections": 500}, "unheard_of": "s3cret-new"
	    },
	    "http": {"servers": {"srv0": {"listen": [":443"], "routes": [{
	      "match": [{"host": ["awx.example.com"], "header": {"X-Secret": ["s3cret-match"]}}],
	      "handle": [
	        {"handler": "headers", "request": {"set": {"Authorization": ["Bearer s3cret-bearer"]}}},
	        {"handler": "edgerelay_publish", "path": "/publish", "keys": [{"name": "shop", "secret": "s3cret-shop", "previous": ["s3cret-shop-0"]}]},
	        {"handler": "reverse_proxy", "upstreams": [{"dial": "127.0.0.1:8050"}],
	          "transport": {"protocol": "uwsgi", "env": {"TOKEN": "s3cret-env"}}}
	      ]}]}}}
	  }
	}`
	out, r, err := redactConfig(json.RawMessage(config))
	if err != nil {
		t.Fatal(err)
	}
	if text := string(out); strings.Contains(text, "s3cret") || strings.Contains(text, "4711") {
		t.Errorf("a secret is left:\n%s", text)
	}
	for _, want := range []string{
		`"https://[redacted]:[redacted]@app/auth?token=[redacted]&x=#[redacted]"`, `"redis://:[redacted]@redis:6379/0"`,
		`"{env.REDIS}"`, `"{file./run/key}"`, `"/p.wasm"`, `"connections": 500`, `"on": true`, `"awx.example.com"`,
		`"name": "shop"`, `"path": "/publish"`, `"dial": "127.0.0.1:8050"`,
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%s is missing in\n%s", want, out)
		}
	}
	for _, want := range []string{
		"s3cret-url", "s3cret-query",
		"s3cret-key", "s3cret/redis", "s3cret%2Fredis", "{env.REDIS}", "s3cret-a",
		"{file./run/key}", "s3cret-plane", "s3cret-before", "s3cret dsn", "{env.HOOK}", "s3cret-shop", "s3cret-shop-0",
		"s3cret-dns", "s3cret-env", "s3cret-bearer",
	} {
		if !slices.Contains(r.secrets, want) {
			t.Errorf("%s is not searched in other files: %q", want, r.secrets)
		}
	}
}
