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
	t.Setenv("ADV_KEY", "hunter2")
	for name, c := range map[string]struct{ lines, want string }{
		"shortest":         {`auth none`, `{"auth": {"kind": "none"}}`},
		"auth caddy":       {`auth caddy`, `{"auth": {"kind": "caddy"}}`},
		"auth caddy rules": {"auth caddy {\nallow orders-{user} news\n}", `{"auth": {"kind": "caddy", "allow": ["orders-{user}", "news"]}}`},
		"auth http":        {"auth http http://a/ {\nmethod post\nheaders X-A X-B\nuri on\nkey k\nrecheck off\n}", `{"auth": {"kind": "http", "url": "http://a/", "method": "post", "headers": ["X-A", "X-B"], "uri": true, "key": "k", "recheck": "off"}}`},
		"auth jwt":         {"auth jwt {\njwks https://a/\nfrom header\nfrom cookie c\naudience a b\nleeway 5s\nrefresh token\n}", `{"auth": {"kind": "jwt", "jwks": "https://a/", "from": [{"kind": "header"}, {"kind": "cookie", "name": "c"}], "audience": ["a", "b"], "leeway": 5000000000, "refresh": "token"}}`},
		"memory":           {"channel_layer memory\nauth none", `{"channel_layer": {"kind": "memory"}, "auth": {"kind": "none"}}`},
		"redis, one line":  {"channel_layer redis redis://127.0.0.1:6379/1\nauth none", `{"channel_layer": {"kind": "redis", "url": ["redis://127.0.0.1:6379/1"]}, "auth": {"kind": "none"}}`},
		"a placeholder stays one": {
			"channel_layer redis {env.ADV_REDIS}\nauth none",
			`{"channel_layer": {"kind": "redis", "url": ["{env.ADV_REDIS}"]}, "auth": {"kind": "none"}}`,
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
			auth awx http://127.0.0.1:8054 {
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
			"channel_layer": {"kind": "redis", "url": ["redis://127.0.0.1:6379/0"], "prefix": "asgi", "capacity": 10000, "expiry": 60000000000, "group_expiry": 157784760000000000, "serializer": "json"},
			"auth": {"kind": "awx", "url": "http://127.0.0.1:8054", "cache": 5000000000, "recheck": 60000000000, "timeout": 2500000000, "concurrency": 8, "session_cookie": "sessionid", "strict": true},
			"origins": ["https://awx.example.com", "https://*.example.org", "*.example.net"],
			"unauthenticated": "reject",
			"limits": {"frame_size": 32768, "groups_per_connection": 100, "subscribe_rate": 2.5, "connections_per_user": 100, "connections_per_address": 0, "connections": 50000, "queue_per_connection": 1048576, "ping": 10000000000, "silence": 60000000000}}`},
		"redis by sentinel": {`
			channel_layer redis {
				sentinel {
					master one two
					addresses 10.0.0.1:26379 10.0.0.2:26379
					username relay
					password {env.ADV_KEY}
					database 2
					sentinel_password {env.ADV_KEY}
				}
				tls {
					server_name redis.example.com
					insecure_skip_verify
				}
				pool {
					size 20
					min_idle 2
					dial_timeout 1s
					read_timeout 2
					retries 0
					max_backoff 1s
				}
				symmetric_encryption_keys {env.ADV_KEY} {env.ADV_REDIS}
				channel_capacity http.request* 20
				channel_capacity regexp ^specific 2000
			}
			auth none`, `{
			"channel_layer": {"kind": "redis",
				"sentinel": [
					{"master": "one", "addresses": ["10.0.0.1:26379", "10.0.0.2:26379"], "username": "relay", "password": "{env.ADV_KEY}", "database": 2, "sentinel_password": "{env.ADV_KEY}"},
					{"master": "two", "addresses": ["10.0.0.1:26379", "10.0.0.2:26379"], "username": "relay", "password": "{env.ADV_KEY}", "database": 2, "sentinel_password": "{env.ADV_KEY}"}],
				"tls": {"server_name": "redis.example.com", "insecure_skip_verify": true},
				"pool": {"size": 20, "min_idle": 2, "dial_timeout": 1000000000, "read_timeout": 2000000000, "retries": 0, "max_backoff": 1000000000},
				"symmetric_encryption_keys": ["{env.ADV_KEY}", "{env.ADV_REDIS}"],
				"channel_capacity": [{"pattern": "http.request*", "capacity": 20}, {"pattern": "^specific", "regexp": true, "capacity": 2000}]},
			"auth": {"kind": "none"}}`},
		"redis_pubsub": {
			"channel_layer redis_pubsub redis://127.0.0.1:6379 {\nprefix p\nresync `{\"resync\": true}`\nsymmetric_encryption_keys {env.ADV_KEY}\n}\nauth none",
			`{"channel_layer": {"kind": "redis_pubsub", "url": ["redis://127.0.0.1:6379"], "prefix": "p", "resync": "{\"resync\": true}", "symmetric_encryption_keys": ["{env.ADV_KEY}"]}, "auth": {"kind": "none"}}`,
		},
		"redis_cluster": {
			"channel_layer redis_cluster 10.0.0.1:6379 {\naddress 10.0.0.2:6379 10.0.0.3:6379\nprefix p\nusername u\npassword {env.ADV_KEY}\ntls {\n}\nresync `1`\n}\nauth none",
			`{"channel_layer": {"kind": "redis_cluster", "address": ["10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.3:6379"], "prefix": "p", "username": "u", "password": "{env.ADV_KEY}", "tls": {}, "resync": "1"}, "auth": {"kind": "none"}}`,
		},
		"redis resync": {
			"channel_layer redis {\nresync `1`\n}\nauth none",
			`{"channel_layer": {"kind": "redis", "resync": "1"}, "auth": {"kind": "none"}}`,
		},
		"memory resync": {
			"channel_layer memory {\nresync `1`\n}\nauth none",
			`{"channel_layer": {"kind": "memory", "resync": "1"}, "auth": {"kind": "none"}}`,
		},
		"lax, no recheck": {
			"auth awx http://h {\nstrict off\nrecheck off\n}",
			`{"auth": {"kind": "awx", "url": "http://h", "strict": false, "recheck": "off"}}`,
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
		"unknown option":      {"auth none\nfoo bar", `no setting "foo"; it has channel_layer`},
		"auth twice":          {"auth none\nauth caddy", "auth is given twice"},
		"layer twice":         {"auth none\nchannel_layer memory\nchannel_layer memory", "channel_layer is given twice"},
		"auth what":           {`auth`, "auth needs a kind; use one of awx"},
		"unknown auth":        {`auth ldap`, `unknown auth "ldap"; use one of awx`},
		"unknown layer":       {"auth none\nchannel_layer kafka", `unknown channel_layer "kafka"; use one of memory`},
		"layer what":          {"auth none\nchannel_layer", "channel_layer needs a kind"},
		"auth none with more": {`auth none x`, "auth none has no settings"},
		"auth none block":     {"auth none {\nx\n}", "auth none has no settings"},
		"auth caddy block":    {"auth caddy {\nx 1\n}", "it has allow, lifetime and expires"},
		"memory with more":    {"auth none\nchannel_layer memory x", "channel_layer memory has no setting but resync"},
		"awx without url":     {`auth awx`, "http://127.0.0.1:8054"},
		"awx with two urls":   {`auth awx http://a http://b`, "one address"},
		"awx unknown":         {"auth awx http://a {\nfoo 1\n}", `no setting "foo"; it has strict`},
		"awx no value":        {"auth awx http://a {\ncache\n}", "cache takes one value"},
		"awx two values":      {"auth awx http://a {\ncache 1s 2s\n}", "cache takes one value"},
		"awx strict":          {"auth awx http://a {\nstrict maybe\n}", "on or off"},
		"awx cache":           {"auth awx http://a {\ncache soon\n}", "cache: invalid duration"},
		"awx cache 0":         {"auth awx http://a {\ncache 0\n}", "above 0"},
		"awx cache negative":  {"auth awx http://a {\ncache -5s\n}", "invalid duration"},
		"awx grace":           {"auth awx http://a {\nrecheck_grace soon\n}", "recheck_grace: invalid duration"},
		"awx short grace":     {"auth awx http://a {\nrecheck 10m\nrecheck_grace 5m\n}", "set a longer time, or 0"},
		"awx token grace":     {"auth awx http://a {\ngateway_token_grace 0\n}", "above 0"},
		"awx other groups":    {"auth awx http://a {\nother_groups some\n}", "allow or deny"},
		"awx lax, but deny":   {"auth awx http://a {\nstrict off\nother_groups deny\n}", "needs strict on"},
		"caddy lifetime":      {"auth caddy {\nlifetime 0\n}", "lifetime: invalid duration"},
		"awx timeout NaN":     {"auth awx http://a {\ntimeout NaN\n}", "invalid duration"},
		"awx timeout huge":    {"auth awx http://a {\ntimeout 1e300\n}", "invalid duration"},
		"awx concurrency":     {"auth awx http://a {\nconcurrency -1\n}", "above 0"},
		"awx concurrency x":   {"auth awx http://a {\nconcurrency x\n}", "above 0"},
		"awx bad scheme":      {`auth awx ftp://a`, "http://127.0.0.1:8054"},
		"awx no scheme":       {`auth awx 127.0.0.1:8054`, "http://127.0.0.1:8054"},
		"awx user":            {`auth awx http://svc:{env.ADV_SECRET}@a`, "contains a user"},
		"awx bad with secret": {`auth awx ht!tp://{env.ADV_SECRET}`, "http://127.0.0.1:8054"},
		"awx unset":           {`auth awx {env.ADV_UNSET}`, "env.ADV_UNSET"},
		"redis bad url":       {"auth none\nchannel_layer redis http://:{env.ADV_SECRET}@h", "redis://user:password@host:6379/0"},
		"redis bad port":      {"auth none\nchannel_layer redis redis://:{env.ADV_SECRET}@h:port", "no valid port"},
		"redis unset":         {"auth none\nchannel_layer redis {env.ADV_UNSET}", "env.ADV_UNSET"},
		"redis unknown":       {"auth none\nchannel_layer redis {\nfoo 1\n}", `no setting "foo"; it has url`},
		"redis no value":      {"auth none\nchannel_layer redis {\nprefix\n}", "prefix takes one value"},
		"redis no url":        {"auth none\nchannel_layer redis {\nurl\n}", "url takes at least one value, such as redis://"},
		"redis capacity":      {"auth none\nchannel_layer redis {\ncapacity many\n}", "capacity:"},
		"redis capacity -1":   {"auth none\nchannel_layer redis {\ncapacity -1\n}", "above 0"},
		"redis expiry":        {"auth none\nchannel_layer redis {\nexpiry 1ms\n}", "at least 1s"},
		"redis no key":        {"auth none\nchannel_layer redis {\nsymmetric_encryption_keys\n}", "{env.CHANNELS_KEY}"},
		"redis unset key":     {"auth none\nchannel_layer redis {\nsymmetric_encryption_keys {env.ADV_UNSET}\n}", "env.ADV_UNSET"},
		"redis no file":       {"auth none\nchannel_layer redis {\nsymmetric_encryption_keys {file./nowhere/key}\n}", "/nowhere/key"},
		"redis pattern":       {"auth none\nchannel_layer redis {\nchannel_capacity http*\n}", "channel_capacity http.request* 20"},
		"redis bad pattern":   {"auth none\nchannel_layer redis {\nchannel_capacity regexp ( 20\n}", "channel_capacity ("},
		"redis pattern of 0":  {"auth none\nchannel_layer redis {\nchannel_capacity x 0\n}", "above 0"},
		"sentinel bare":       {"auth none\nchannel_layer redis {\nsentinel mymaster\n}", "master mymaster"},
		"sentinel no master":  {"auth none\nchannel_layer redis {\nsentinel {\naddresses a:1\n}\n}", "master mymaster"},
		"sentinel address":    {"auth none\nchannel_layer redis {\nsentinel {\nmaster m\naddresses a\n}\n}", "host:port"},
		"sentinel unknown":    {"auth none\nchannel_layer redis {\nsentinel {\nfoo 1\n}\n}", `no setting "foo"; it has master`},
		"sentinel and url":    {"auth none\nchannel_layer redis redis://h {\nsentinel {\nmaster m\naddresses a:1\n}\n}", "exclude each other"},
		"tls without rediss":  {"auth none\nchannel_layer redis redis://h {\ntls {\nserver_name x\n}\n}", "rediss://"},
		"tls unknown":         {"auth none\nchannel_layer redis rediss://h {\ntls {\nfoo 1\n}\n}", `no setting "foo"; it has ca`},
		"tls no file":         {"auth none\nchannel_layer redis rediss://h {\ntls {\nca /nowhere/ca.pem\n}\n}", "/nowhere/ca.pem"},
		"tls half a pair":     {"auth none\nchannel_layer redis rediss://h {\ntls {\ncert x\n}\n}", "cert and key go together"},
		"pubsub unknown":      {"auth none\nchannel_layer redis_pubsub {\nfoo 1\n}", `no setting "foo"; it has url`},
		"pubsub capacity":     {"auth none\nchannel_layer redis_pubsub {\ncapacity 1\n}", "channel_layer redis"},
		"pubsub resync":       {"auth none\nchannel_layer redis_pubsub {\nresync hello\n}", `{"resync": true}`},
		"redis resync":        {"auth none\nchannel_layer redis {\nresync hello\n}", `{"resync": true}`},
		"memory resync":       {"auth none\nchannel_layer memory {\nresync hello\n}", `{"resync": true}`},
		"memory unknown":      {"auth none\nchannel_layer memory {\nurl x\n}", "it has resync"},
		"pubsub resync what":  {"auth none\nchannel_layer redis_pubsub {\nresync\n}", "resync takes one value"},
		"cluster unknown":     {"auth none\nchannel_layer redis_cluster {\nurl redis://h\n}", `no setting "url"; it has address`},
		"cluster address":     {"auth none\nchannel_layer redis_cluster redis://h:1/0", "host:port"},
		"cluster no address":  {"auth none\nchannel_layer redis_cluster {\naddress\n}", "10.0.0.1:6379"},
		"cluster prefix":      {"auth none\nchannel_layer redis_cluster {\nprefix a}\n}", "braces"},
		"cluster tls what":    {"auth none\nchannel_layer redis_cluster {\ntls on\n}", "tls takes a block"},
		"cluster resync":      {"auth none\nchannel_layer redis_cluster {\nresync hello\n}", `{"resync": true}`},
		"cluster unset":       {"auth none\nchannel_layer redis_cluster {\npassword {env.ADV_UNSET}\n}", "env.ADV_UNSET"},
		"pool unknown":        {"auth none\nchannel_layer redis {\npool {\nfoo 1\n}\n}", `no setting "foo"; it has size`},
		"pool no number":      {"auth none\nchannel_layer redis {\npool {\nsize -1\n}\n}", "size: invalid number"},
		"pool no time":        {"auth none\nchannel_layer redis {\npool {\ndial_timeout soon\n}\n}", "dial_timeout: invalid duration"},
		"pool backoff":        {"auth none\nchannel_layer redis {\npool {\nmin_backoff 2s\n}\n}", "min_backoff is above max_backoff"},
		"redis serializer":    {"auth none\nchannel_layer redis {\nserializer xml\n}", "msgpack or json"},
		"origins what":        {"auth none\norigins", "https://awx.example.com"},
		"origins with a path": {"auth none\norigins https://awx.example.com/", "without a path"},
		"origins with a user": {"auth none\norigins https://u@awx.example.com", "without a path"},
		"origins empty":       {"auth none\norigins \"\"", "without a path"},
		"unauthenticated":     {"auth none\nunauthenticated maybe", "close or reject"},
		"unauthenticated two": {"auth none\nunauthenticated close reject", "close or reject"},
		"unknown limit":       {limits + "speed 1\n}", `limits has no setting "speed"; it has frame_size`},
		"limit no value":      {limits + "connections\n}", "connections takes one value"},
		"limit two values":    {limits + "connections 1 2\n}", "connections takes one value"},
		"limit no number":     {limits + "connections many\n}", "connections: invalid number"},
		"limit negative":      {limits + "connections -1\n}", "a number from 0"},
		"limit huge":          {limits + "queue_per_connection 18EB\n}", "too large"},
		"frame size 0":        {limits + "frame_size 0\n}", "frame_size must be above 0"},
		"frame size x":        {limits + "frame_size big\n}", "frame_size: invalid size"},
		"rate negative":       {limits + "subscribe_rate -1\n}", "subscribe_rate"},
		"rate NaN":            {limits + "subscribe_rate NaN\n}", "subscribe_rate"},
		"rate infinite":       {limits + "subscribe_rate Inf\n}", "subscribe_rate"},
		"ping negative":       {limits + "ping -1s\n}", "invalid duration"},
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
		"{\nedgerelay {\nauth none\n}\nedgerelay {\nauth none\n}\n}\n":           "configured twice",
		"{\nedgerelay x {\nauth none\n}\n}\n":                                    "edgerelay",
		"{\nedgerelay {\nauth none\n}\n}\n:9 {\nedgerelay {\nlimits\n}\n}\n":     "it has path",
		"{\nedgerelay {\nauth none\n}\n}\n:9 {\nedgerelay {\npath\n}\n}\n":       "path",
		"{\nedgerelay {\nauth none\n}\n}\n:9 {\nedgerelay {\npath ws\n}\n}\n":    "must begin with /",
		"{\nedgerelay {\nauth none\n}\n}\n:9 {\nedgerelay {\npath /ws[1\n}\n}\n": "is malformed",
		"{\nedgerelay {\nauth none\n}\n}\n:9 {\nedgerelay_health {\nx\n}\n}\n":   "edgerelay_health",
		"{\nedgerelay {\nauth caddy\n}\n}\n:9 {\nedgerelay_demo\n}\n":            "use auth none",
		":9 {\nedgerelay\n}\n": "auth awx <url>",
	} {
		if err := validate(file); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s\n%v; it should say %q", file, err, says)
		}
	}
}
