package caddymodule

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

// adapt makes JSON of a Caddyfile.
func adapt(caddyfile string) ([]byte, error) {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	return config, err
}

// validate does what `caddy validate` does.
func validate(caddyfile string) error {
	config, err := adapt(caddyfile)
	if err != nil {
		return err
	}
	var c *caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &c); err != nil {
		return err
	}
	return caddy.Validate(c)
}

// global is a Caddyfile whose global option edgerelay holds lines.
func global(lines string) string {
	return "{\n\tadmin off\n\tedgerelay {\n" + lines + "\n\t}\n}\n:9 {\n\tedgerelay\n}\n"
}

func sameJSON(t *testing.T, got []byte, want string) {
	t.Helper()
	var a, b any
	if err := errors.Join(json.Unmarshal(got, &a), json.Unmarshal([]byte(want), &b)); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestCaddyfile(t *testing.T) {
	t.Setenv("ADV_REDIS", "redis://:hunter2@127.0.0.1:6379/0")
	for name, c := range map[string]struct{ lines, want string }{
		"shortest":        {`auth none`, `{"auth": {"kind": "none"}}`},
		"auth caddy":      {`auth caddy`, `{"auth": {"kind": "caddy"}}`},
		"memory":          {"channel_layer memory\nauth none", `{"channel_layer": {"kind": "memory"}, "auth": {"kind": "none"}}`},
		"redis, one line": {"channel_layer redis redis://127.0.0.1:6379/1\nauth none", `{"channel_layer": {"kind": "redis", "urls": ["redis://127.0.0.1:6379/1"]}, "auth": {"kind": "none"}}`},
		"a placeholder stays one": {
			"channel_layer redis {env.ADV_REDIS}\nauth none",
			`{"channel_layer": {"kind": "redis", "urls": ["{env.ADV_REDIS}"]}, "auth": {"kind": "none"}}`,
		},
		"everything": {`
			channel_layer redis {
				url redis://127.0.0.1:6379/0
				prefix asgi
				capacity 10000
				expiry 1m
				group_expiry 157784760s
				serializer json
			}
			auth awx http://127.0.0.1:8050 {
				strict on
				cache 5s
				recheck 60s
				timeout 2.5
				concurrency 8
				session_cookie sessionid
			}
			origins https://awx.example.com
			origins https://*.example.org *.example.net
			unauthenticated reject
			limits {
				frame_size 32KiB
				groups_per_connection 100
				subscribe_rate 2.5
				connections_per_user 100
				connections_per_address 0
				connections 50000
				queue_per_connection 1MiB
				ping 10s
				silence 1m
			}`, `{
			"channel_layer": {"kind": "redis", "urls": ["redis://127.0.0.1:6379/0"], "prefix": "asgi", "capacity": 10000, "expiry": 60000000000, "group_expiry": 157784760000000000, "serializer": "json"},
			"auth": {"kind": "awx", "url": "http://127.0.0.1:8050", "cache": 5000000000, "recheck": 60000000000, "timeout": 2500000000, "concurrency": 8, "session_cookie": "sessionid"},
			"origins": ["https://awx.example.com", "https://*.example.org", "*.example.net"],
			"unauthenticated": "reject",
			"limits": {"frame_size": 32768, "groups_per_connection": 100, "subscribe_rate": 2.5, "connections_per_user": 100, "connections_per_address": 0, "connections": 50000, "queue_per_connection": 1048576, "ping": 10000000000, "silence": 60000000000}}`},
		"lax, no recheck": {
			"auth awx http://h {\nstrict off\nrecheck off\n}",
			`{"auth": {"kind": "awx", "url": "http://h", "lax": true, "recheck": -1000000000}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := adapt(global(c.lines))
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				Apps map[string]json.RawMessage `json:"apps"`
			}
			if err := json.Unmarshal(config, &got); err != nil {
				t.Fatal(err)
			}
			sameJSON(t, got.Apps["edgerelay"], c.want)
			if strings.Contains(string(config), "hunter2") {
				t.Errorf("a secret was expanded: %s", config)
			}
			if err := validate(global(c.lines)); err != nil {
				t.Errorf("validate: %v", err)
			}
		})
	}
}

// Mistakes are named, and what to write instead.
func TestCaddyfileMistakes(t *testing.T) {
	t.Setenv("ADV_SECRET", "hunter2")
	const limits = "auth none\nlimits {\n"
	for name, c := range map[string]struct{ lines, says string }{
		"no auth":             {`channel_layer memory`, "auth awx <url>"},
		"unknown option":      {"auth none\nfoo bar", `no option "foo"; it has channel_layer`},
		"auth twice":          {"auth none\nauth caddy", "auth is given twice"},
		"layer twice":         {"auth none\nchannel_layer memory\nchannel_layer memory", "channel_layer is given twice"},
		"auth what":           {`auth`, "auth needs a kind"},
		"unknown auth":        {`auth ldap`, `no auth "ldap"`},
		"unknown layer":       {"auth none\nchannel_layer kafka", `no channel_layer "kafka"`},
		"layer what":          {"auth none\nchannel_layer", "channel_layer needs a kind"},
		"auth none with more": {`auth none x`, "auth none has no settings"},
		"auth none block":     {"auth none {\nx\n}", "auth none has no settings"},
		"auth caddy block":    {"auth caddy {\nx\n}", "auth caddy has no settings"},
		"memory with more":    {"auth none\nchannel_layer memory x", "channel_layer memory has no settings"},
		"awx without url":     {`auth awx`, "http://127.0.0.1:8050"},
		"awx with two urls":   {`auth awx http://a http://b`, "one address"},
		"awx unknown":         {"auth awx http://a {\nfoo 1\n}", `no setting "foo"; it has strict`},
		"awx no value":        {"auth awx http://a {\ncache\n}", "cache takes one value"},
		"awx two values":      {"auth awx http://a {\ncache 1s 2s\n}", "cache takes one value"},
		"awx strict":          {"auth awx http://a {\nstrict maybe\n}", "on or off"},
		"awx cache":           {"auth awx http://a {\ncache soon\n}", "cache: this is no duration"},
		"awx cache 0":         {"auth awx http://a {\ncache 0\n}", "above 0"},
		"awx cache negative":  {"auth awx http://a {\ncache -5s\n}", "no duration"},
		"awx timeout NaN":     {"auth awx http://a {\ntimeout NaN\n}", "no duration"},
		"awx timeout huge":    {"auth awx http://a {\ntimeout 1e300\n}", "no duration"},
		"awx concurrency":     {"auth awx http://a {\nconcurrency -1\n}", "above 0"},
		"awx concurrency x":   {"auth awx http://a {\nconcurrency x\n}", "above 0"},
		"awx bad scheme":      {`auth awx ftp://a`, "http://127.0.0.1:8050"},
		"awx no scheme":       {`auth awx 127.0.0.1:8050`, "http://127.0.0.1:8050"},
		"awx user":            {`auth awx http://svc:{env.ADV_SECRET}@a`, "no user"},
		"awx bad with secret": {`auth awx ht!tp://{env.ADV_SECRET}`, "http://127.0.0.1:8050"},
		"awx unset":           {`auth awx {env.ADV_UNSET}`, "env.ADV_UNSET"},
		"redis bad url":       {"auth none\nchannel_layer redis http://:{env.ADV_SECRET}@h", "redis://user:password@host:6379/0"},
		"redis bad port":      {"auth none\nchannel_layer redis redis://:{env.ADV_SECRET}@h:port", "redis://user:password@host:6379/0"},
		"redis unset":         {"auth none\nchannel_layer redis {env.ADV_UNSET}", "env.ADV_UNSET"},
		"redis unknown":       {"auth none\nchannel_layer redis {\nfoo 1\n}", `no setting "foo"; it has url`},
		"redis no value":      {"auth none\nchannel_layer redis {\nprefix\n}", "prefix takes one value"},
		"redis no url":        {"auth none\nchannel_layer redis {\nurl\n}", "url takes one value"},
		"redis capacity":      {"auth none\nchannel_layer redis {\ncapacity many\n}", "capacity:"},
		"redis capacity -1":   {"auth none\nchannel_layer redis {\ncapacity -1\n}", "capacity must be above 0"},
		"redis expiry":        {"auth none\nchannel_layer redis {\nexpiry 1ms\n}", "at least 1s"},
		"redis serializer":    {"auth none\nchannel_layer redis {\nserializer xml\n}", "msgpack, json"},
		"origins what":        {"auth none\norigins", "https://awx.example.com"},
		"origins with a path": {"auth none\norigins https://awx.example.com/", "without a path"},
		"origins with a user": {"auth none\norigins https://u@awx.example.com", "without a path"},
		"origins empty":       {"auth none\norigins \"\"", "without a path"},
		"unauthenticated":     {"auth none\nunauthenticated maybe", "close or reject"},
		"unauthenticated two": {"auth none\nunauthenticated close reject", "after 'close'"},
		"unknown limit":       {limits + "speed 1\n}", `no limit "speed"; there are frame_size`},
		"limit no value":      {limits + "connections\n}", "connections takes one value"},
		"limit two values":    {limits + "connections 1 2\n}", "connections takes one value"},
		"limit no number":     {limits + "connections many\n}", "connections many"},
		"limit negative":      {limits + "connections -1\n}", "positive number, or 0"},
		"limit huge":          {limits + "queue_per_connection 18EB\n}", "too much"},
		"frame size 0":        {limits + "frame_size 0\n}", "frame_size must be above 0"},
		"frame size x":        {limits + "frame_size big\n}", "frame_size big"},
		"rate negative":       {limits + "subscribe_rate -1\n}", "subscribe_rate"},
		"rate NaN":            {limits + "subscribe_rate NaN\n}", "subscribe_rate"},
		"rate infinite":       {limits + "subscribe_rate Inf\n}", "subscribe_rate"},
		"ping negative":       {limits + "ping -1s\n}", "no duration"},
		"silence under ping":  {limits + "ping 20s\nsilence 10s\n}", "silence must be longer than ping"},
		"silence, no ping":    {limits + "ping 0\n}", "silence must be longer than ping"},
	} {
		t.Run(name, func(t *testing.T) {
			err := validate(global(c.lines))
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v; it should say %q", err, c.says)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
	for file, says := range map[string]string{
		"{\nedgerelay {\nauth none\n}\nedgerelay {\nauth none\n}\n}\n":         "configured twice",
		"{\nedgerelay x {\nauth none\n}\n}\n":                                  "edgerelay",
		"{\nedgerelay {\nauth none\n}\n}\n:9 {\nedgerelay {\nlimits\n}\n}\n":   "it has path",
		"{\nedgerelay {\nauth none\n}\n}\n:9 {\nedgerelay {\npath\n}\n}\n":     "path",
		"{\nedgerelay {\nauth none\n}\n}\n:9 {\nedgerelay {\npath ws\n}\n}\n":  "begins with a slash",
		"{\nedgerelay {\nauth none\n}\n}\n:9 {\nedgerelay_health {\nx\n}\n}\n": "edgerelay_health",
		"{\nedgerelay {\nauth caddy\n}\n}\n:9 {\nedgerelay_demo\n}\n":          "auth none only",
		":9 {\nedgerelay\n}\n": "auth awx <url>",
	} {
		if err := validate(file); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s\n%v; it should say %q", file, err, says)
		}
	}
}
