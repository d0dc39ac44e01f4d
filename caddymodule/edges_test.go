package caddymodule

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// validateJSON does what `caddy validate` does with a configuration in JSON.
func validateJSON(text string) error {
	var c *caddy.Config
	if err := caddy.StrictUnmarshalJSON([]byte(text), &c); err != nil {
		return err
	}
	return caddy.Validate(c)
}

// survive returns the error of a check, or its panic as an error.
func survive(check func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return check()
}

// routeFile is a Caddyfile with the settings of one route, global and of the site.
func routeFile(global, route string) string {
	return "{\nadmin off\nedgerelay {\nauth none\n" + global + "\n}\n}\n:9 {\nedgerelay {\n" + route + "\n}\n}\n"
}

// A setting that can never work is an error of one line that names the setting and the remedy.
func TestSettingsThatCannotWork(t *testing.T) {
	for name, c := range map[string]struct{ file, says string }{
		"pool size":       {global("auth none\nchannel_layer redis {\npool {\nsize 99999999999\n}\n}"), "pool: size: number 99999999999 is too large; use 65535 at most"},
		"pool min_idle":   {global("auth none\nchannel_layer redis {\npool {\nmin_idle 99999999999\n}\n}"), "pool: min_idle: number"},
		"pool max_idle":   {global("auth none\nchannel_layer redis_pubsub {\npool {\nmax_idle 65536\n}\n}"), "pool: max_idle: number"},
		"pool of the url": {global("auth none\nchannel_layer redis redis://h/0?max_connections=1000000000"), "the option max_connections: invalid number; write 1 to 65535"},
		"state's url":     {global("auth none\nfunctions {\nstate redis://h/0?pool_size=1000000000\n}"), "the option pool_size: invalid number"},
		"backend queue":   {routeFile("", "route /ws/ {\nmessages backend http://127.0.0.1:8000 {\nqueue 9000000000000000000\n}\n}"), "messages backend: queue: number 9000000000000000000 is too large; use 1000000 at most"},
		"hold queue":      {routeFile("", "route /ws/ {\nhold http://127.0.0.1:8000 {\nqueue 9000000000000000000\n}\n}"), "hold: queue: number"},
		"number":          {global("auth none\ntrace_events 3000000000"), "trace_events: number 3000000000 is too large; use 2147483647 at most"},
		"capacity":        {global("auth none\nchannel_layer redis {\ncapacity 99999999999999999999\n}"), "capacity: number 99999999999999999999 is too large"},
		"expiry":          {global("auth none\nchannel_layer redis {\nexpiry 1ms\n}"), `channel_layer redis: expiry: invalid duration "1ms"; use at least 1s`},
		"group_expiry":    {global("auth none\nchannel_layer redis {\ngroup_expiry 1ms\n}"), `channel_layer redis: group_expiry: invalid duration "1ms"; use at least 1s`},
		"database":        {global("auth none\nchannel_layer redis redis://h/abc"), "the url (redis://…) has no valid database; write a number from 0 behind the host"},
		"drain":           {global("auth none\ndrain 2d"), "drain: duration 48h0m0s is too long; use 24h at most"},
		"state_value":     {global("auth none\nfunctions {\nstate_value 17MiB\n}"), "state_value: size 17MiB is too large; use 16 MiB at most"},
		"origins of fetch and more": {
			global("auth none\nplugin p /no/file {\ngroups *\nfetch ftp://a {\nmethods get\n}\n}"), "; invalid method",
		},

		"limits":   {global("auth none\nlimits 5"), "write 'limits {', and '}' on a line of its own"},
		"presence": {routeFile("", "route /ws/ {\ngroups a\npresence 5\n}"), "write 'presence {', and '}' on a line of its own"},
		"console of jwt": {
			strings.Replace(routeFile("", "}\nedgerelay_console {\nactions on"), "auth none", "auth jwt {\nkey 0123456789abcdef0123456789abcdef\nalgorithms HS256\n}", 1),
			"edgerelay_console: auth jwt has no superusers; name the operators by 'operators <user>…' in a block of edgerelay_console",
		},
		"jwt with key and jwks": {global("auth jwt {\nkey 0123456789abcdef0123456789abcdef\njwks https://a/\n}"), "key and jwks are both given; remove one"},
		"jwt without a key":     {global("auth jwt"), "either jwks or a key is needed; add one"},

		"publish twice": {
			routeFile("", "}\nedgerelay_publish {\nkey a x {\ngroups *\n}\n}\nedgerelay_publish {\nkey b y {\ngroups *\n}"),
			"edgerelay_publish: the path /edgerelay/publish is served already; put all keys into one edgerelay_publish, or use another path",
		},
		"publish twice, by a matcher": {
			routeFile("", "}\n@a host a\nroute {\nedgerelay_publish /x {\nkey a x {\ngroups *\n}\n}\nedgerelay_publish @a /x/ {\nkey b y {\ngroups *\n}\n}"),
			"the path /x is served already",
		},
		"publish twice in a handle": {
			routeFile("", "}\nhandle /x* {\nedgerelay_publish /x {\nkey a x {\ngroups *\n}\n}\nedgerelay_publish /x {\nkey b y {\ngroups *\n}\n}"),
			"the path /x is served already",
		},
		"console twice": {
			routeFile("", "}\nedgerelay_console /c/ {\noperators a\n}\nedgerelay_console /c {\noperators b"),
			"edgerelay_console: the path /c/ is served already",
		},

		"space in a template": {routeFile("", "route /ws/{room}/ {\ngroups \"chat {room}\"\n}"), `groups: "chat {room}" becomes no group's name`},
		"space in to":         {routeFile("", "route /ws/{room}/ {\ngroups {room}\nmessages publish t {\nto \"chat {room}\"\n}\n}"), `messages: to: "chat {room}" becomes no group's name`},
		"space in join":       {routeFile("", "route /ws/ {\nmessages subscribe {\njoin \"a {message.room}\"\n}\n}"), `messages subscribe: "a {message.room}" becomes no group's name`},
		"query of a route":    {routeFile("", "route /a?b=c {\ngroups a\n}"), `path "/a?b=c" has a query; write the path alone`},
		"query of a pattern":  {routeFile("", "route /a?b={b} {\ngroups a\n}"), `path "/a?b={b}" has a query`},
		"query of a path":     {routeFile("", "path /ws?x=1"), `path "/ws?x=1" has a query; write the path alone`},
		"first without":       {routeFile("", "route /ws/ {\ngroups a\nfirst history 5\n}"), "first history: no group of the route has a history; add 'history <pattern>' to the global option edgerelay"},
		"first, other groups": {routeFile("history b-*", "route /ws/ {\ngroups a\nfirst history 5\n}"), "first history: no group of the route has a history"},
		"shadowed route":      {routeFile("", "route /ws/* {\ngroups a\n}\nroute /ws/chat/ {\ngroups b\n}"), "route /ws/chat/: route /ws/* comes before and serves all clients of this path; put it behind"},
		"member twice":        {routeFile("", "route /ws/ {\ngroups a\nmessages publish t json a=b a=c\n}"), `the member "a" is named twice; remove one`},
		"text and binary":     {routeFile("", "route /ws/ {\ngroups a\nmessages publish t json a {\ntext a\n}\n}"), ""}, // a message is either

		"history behind *":      {global("auth none\nhistory *\nhistory foo {\ncount 20\n}"), "history: foo has no effect behind *, which comes before and matches the same groups; put foo before *"},
		"history behind a part": {global("auth none\nhistory a-* \nhistory a-b*"), "history: a-b* has no effect behind a-*"},
		"drain twice":           {global("auth none\ndrain 5s {\nduration 6s\n}"), "drain: the duration is given twice; remove one"},
		"port twice":            {global("auth none\nbackplane {\nsecret x\ndns relay:80 {\nport 81\n}\n}"), "dns: the port is given twice; remove one"},
		"port of SRV":           {global("auth none\nbackplane {\nsecret x\ndns _relay._tcp.example.com {\nport 81\n}\n}"), "dns: SRV records name the ports; remove port"},
		"port behind SRV":       {global("auth none\nbackplane {\nsecret x\ndns _relay._tcp.example.com:81\n}"), "dns: SRV records name the ports; remove :81"},
		"queue of a byte":       {global("auth none\nlimits {\nqueue_per_connection 1\n}"), "limits: queue_per_connection: 1 bytes hold no event; use at least 1KiB, or 0 for no limit"},
		"queue of all":          {global("auth none\nlimits {\nqueue_total 1\n}"), "limits: queue_total: 1 bytes hold no event"},
		"empty history_key":     {global("auth none\nhistory *\nhistory_key \"\""), "history_key: the value is empty; write one, such as {env.EDGERELAY_HISTORY_KEY}, or remove the setting"},
		"empty key of http":     {global("auth http http://a/ {\nkey \"\"\n}"), "auth http: key: the value is empty"},
		"idempotency": {
			routeFile("", "}\nedgerelay_publish {\nidempotency 1ns\nkey a x {\ngroups *\n}"),
			`edgerelay_publish: idempotency: invalid duration "1ns"; use at least 1s`,
		},
		"prefix":           {global("auth none\nchannel_layer redis {\nprefix {env.EDGE_NONE}\n}"), "channel_layer redis: prefix: "},
		"cluster's prefix": {global("auth none\nchannel_layer redis_cluster {\nprefix {env.EDGE_NONE}\n}"), "channel_layer redis_cluster: prefix: "},
		"pubsub's prefix":  {global("auth none\nchannel_layer redis_pubsub {\nprefix {env.EDGE_NONE}\n}"), "channel_layer redis_pubsub: prefix: "},
		"audience of jwt":  {global("auth jwt {\nkey 0123456789abcdef0123456789abcdef\naudience {env.EDGE_NONE}\n}"), "auth jwt: audience: "},
		"issuer of jwt":    {global("auth jwt {\nkey 0123456789abcdef0123456789abcdef\nissuer {env.EDGE_NONE}\n}"), "auth jwt: issuer: "},
		"issuer of grip":   {routeFile("", "route /ws/ {\nmessages backend http://h {\ngrip {\nkey x\nissuer {env.EDGE_NONE}\n}\n}\n}"), "grip: issuer: "},
		"operators":        {routeFile("", "}\nedgerelay_console {\noperators {env.EDGE_NONE}"), "edgerelay_console: operators: "},
		"setting of uwsgi": {
			":9 {\nedgerelay_uwsgi 127.0.0.1:8050 {\nread_timeout 5s\n}\n}",
			"edgerelay_uwsgi: read_timeout belongs to the transport; write reverse_proxy in place of edgerelay_uwsgi, and read_timeout in a block of 'transport uwsgi' in its block",
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := survive(func() error { return validate(c.file) })
			if c.says == "" && err == nil {
				return
			}
			if err == nil || c.says == "" || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v\nit should say %q on one line", err, c.says)
			}
		})
	}
}

// The same as JSON: the bounds of a Caddyfile apply.
func TestJSONBounds(t *testing.T) {
	app := func(settings string) string { return `{"apps": {"edgerelay": {` + settings + `}}}` }
	handler := func(settings string) string {
		return `{"apps": {"edgerelay": {"auth": {"kind": "none"}}, "http": {"servers": {"s": {"listen": [":9"], "routes": [{"handle": [{` +
			settings + `}]}]}}}}}`
	}
	route := func(settings string) string {
		return handler(`"handler": "edgerelay", "routes": [{"path": "/ws/", "groups": ["a"], ` + settings + `}]`)
	}
	publish := func(settings string) string {
		return handler(`"handler": "edgerelay_publish", "keys": [{"name": "shop", "secret": "x", "groups": ["*"]` + settings + `}]`)
	}
	const auth = `"auth": {"kind": "none"}, `
	for name, c := range map[string]struct{ config, says string }{
		"pool":            {app(auth + `"channel_layer": {"kind": "redis", "pool": {"size": -1}}`), `channel_layer redis: pool: size: invalid number "-1"`},
		"idle":            {app(auth + `"channel_layer": {"kind": "redis_pubsub", "pool": {"min_idle": -1}}`), `channel_layer redis_pubsub: pool: min_idle: invalid number "-1"`},
		"retries":         {app(auth + `"channel_layer": {"kind": "redis", "pool": {"retries": -2}}`), `pool: retries: invalid number "-2"`},
		"pool time":       {app(auth + `"channel_layer": {"kind": "redis", "pool": {"read_timeout": -2}}`), `pool: read_timeout: invalid duration "-2ns"`},
		"capacity":        {app(auth + `"channel_layer": {"kind": "redis", "capacity": -1}`), `channel_layer redis: capacity: invalid number "-1"; use a value above 0`},
		"database":        {app(auth + `"channel_layer": {"kind": "redis", "sentinel": [{"master": "m", "addresses": ["a:1"], "database": -1}]}`), `sentinel: database: invalid number "-1"`},
		"limits":          {app(auth + `"limits": {"connections": -5}`), `edgerelay: limits: connections: invalid number "-5"; use a number from 0, such as 10`},
		"rate":            {app(auth + `"limits": {"subscribe_rate": -5}`), `edgerelay: limits: subscribe_rate: invalid number "-5"`},
		"backplane":       {app(auth + `"backplane": {"secret": "x", "queue_per_peer": -5}`), `edgerelay: backplane: queue_per_peer: invalid size "-5"`},
		"backplane time":  {app(auth + `"backplane": {"secret": "x", "queue_age": -5}`), `edgerelay: backplane: queue_age: invalid duration "-5ns"`},
		"history":         {app(auth + `"history": [{"groups": ["a"], "count": -5}]`), `edgerelay: history: count: invalid number "-5"`},
		"functions":       {app(auth + `"functions": {"state_keys": -5}`), `edgerelay: functions: state_keys: invalid number "-5"`},
		"compression":     {app(auth + `"compression": {"min_size": -5}`), `edgerelay: compression: min_size: invalid size "-5"`},
		"drain":           {app(auth + `"drain": {"rate": -5}`), `edgerelay: drain: rate: invalid number "-5"`},
		"drain's time":    {app(auth + `"drain": {"duration": -5}`), `edgerelay: drain: duration: invalid duration "-5ns"`},
		"plugin":          {app(auth + `"plugins": [{"name": "p", "file": "/no", "memory": -5}]`), `edgerelay: plugin p: memory: invalid size "-5"`},
		"fetch":           {app(auth + `"plugins": [{"name": "p", "file": "/no", "fetch": {"addresses": ["https://a"], "in_flight": -5}}]`), `edgerelay: plugin p: fetch: in_flight: invalid number "-5"`},
		"loading":         {app(auth + `"plugin_loading": {"time": -5}`), `edgerelay: plugin_loading: time: invalid duration "-5ns"`},
		"auth http":       {app(`"auth": {"kind": "http", "url": "http://a/", "concurrency": -5}`), `auth http: concurrency: invalid number "-5"; use a value above 0`},
		"auth awx":        {app(`"auth": {"kind": "awx", "url": "http://a", "cache": -5}`), `auth awx: cache: invalid duration "-5ns"`},
		"auth jwt":        {app(`"auth": {"kind": "jwt", "jwks": "https://a/", "leeway": -5}`), `auth jwt: leeway: invalid duration "-5ns"`},
		"auth caddy":      {app(`"auth": {"kind": "caddy", "lifetime": -5}`), `auth caddy: lifetime: invalid duration "-5ns"`},
		"dns":             {app(auth + `"backplane": {"secret": "x", "discoveries": [{"kind": "dns", "name": "a", "every": -5}]}`), `dns: every: invalid duration "-5ns"`},
		"redis":           {app(auth + `"backplane": {"secret": "x", "advertise": "http://a", "discoveries": [{"kind": "redis", "url": "redis://a", "every": -5}]}`), `redis: every: invalid duration "-5ns"`},
		"postgres":        {app(auth + `"backplane": {"secret": "x", "node_name": "n", "discoveries": [{"kind": "postgres", "dsn": "postgres://a/b", "every": -5}]}`), `postgres: every: invalid duration "-5ns"`},
		"burst":           {publish(`, "rate": 5, "burst": -1`), `edgerelay_publish: key shop: burst: invalid number "-1"; use a value above 0`},
		"key's rate":      {publish(`, "rate": -1`), `edgerelay_publish: key shop: rate: invalid number "-1"`},
		"max_body":        {handler(`"handler": "edgerelay_publish", "max_body": -1, "keys": [{"name": "a", "secret": "x", "groups": ["*"]}]`), `edgerelay_publish: max_body: invalid size "-1"`},
		"idempotency":     {handler(`"handler": "edgerelay_publish", "idempotency": 0, "keys": [{"name": "a", "secret": "x", "groups": ["*"]}]`), `edgerelay_publish: idempotency: invalid duration "0s"; use at least 1s`},
		"route's limits":  {route(`"limits": {"connections": -5}`), `edgerelay: route /ws/: limits: connections: invalid number "-5"`},
		"presence":        {route(`"presence": {"announce_up_to": -5}`), `edgerelay: route /ws/: presence: announce_up_to: invalid number "-5"; use a value above 0, or off`},
		"presence, off":   {route(`"presence": {"announce_up_to": 0}`), ""},
		"backend":         {route(`"messages": {"action": "backend", "backend": {"url": "http://a", "queue": 9000000000000000000}}`), `edgerelay: route /ws/: messages: backend: queue: number 9000000000000000000 is too large`},
		"backend's size":  {route(`"messages": {"action": "backend", "backend": {"url": "http://a", "message_size": -5}}`), `messages: backend: message_size: invalid size "-5"`},
		"hold":            {route(`"hold": {"url": "http://a", "queue": -5}`), `edgerelay: route /ws/: hold: queue: invalid number "-5"`},
		"first fetch":     {route(`"first": {"fetch": {"url": "http://a", "concurrency": -5}}`), `edgerelay: route /ws/: first: fetch: concurrency: invalid number "-5"`},
		"transport":       {handler(`"handler": "reverse_proxy", "upstreams": [{"dial": "127.0.0.1:1"}], "transport": {"protocol": "uwsgi", "read_timeout": -5}`), `read_timeout: invalid duration "-5ns"`},
		"trace_events":    {app(auth + `"trace_events": -5`), `edgerelay: trace_events: invalid number "-5"; use a value above 0, or off`},
		"event_streams":   {app(auth + `"event_stream_age": -5`), `edgerelay: event_stream_age: invalid duration "-5ns"; use at least 1s`},
		"recheck, off":    {app(`"auth": {"kind": "http", "url": "http://a/", "recheck": "off", "recheck_grace": 0}`), ""},
		"rate, no number": {app(auth + `"limits": {"subscribe_rate": 1e300}`), `edgerelay: limits: subscribe_rate: invalid number "1e+300"`},
	} {
		t.Run(name, func(t *testing.T) {
			err := survive(func() error { return validateJSON(c.config) })
			if c.says == "" && err == nil {
				return
			}
			if err == nil || c.says == "" || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v\nit should say %q on one line", err, c.says)
			}
		})
	}
}

// What looks like the mistakes above, and works.
func TestSettingsBesideTheEdges(t *testing.T) {
	t.Setenv("EDGE_PREFIX", "shop")
	for name, file := range map[string]string{
		"an empty block":      global("auth none\nlimits {\n}"),
		"history, in order":   global("auth none\nhistory foo {\ncount 20\n}\nhistory *"),
		"publish, other path": routeFile("", "}\nedgerelay_publish {\nkey a x {\ngroups *\n}\n}\nedgerelay_publish /b {\nkey b y {\ngroups *\n}"),
		"publish, matchers":   routeFile("", "}\n@a host a\n@b host b\nedgerelay_publish @a {\nkey a x {\ngroups *\n}\n}\nedgerelay_publish @b {\nkey b y {\ngroups *\n}"),
		"publish, a matcher before": routeFile("",
			"}\n@a host a\nroute {\nedgerelay_publish @a {\nkey a x {\ngroups *\n}\n}\nedgerelay_publish {\nkey b y {\ngroups *\n}\n}"),
		"publish, named routes": "{\nadmin off\nauto_https off\nedgerelay {\nauth none\n}\n}\n" +
			"&(a) {\nedgerelay_publish {\nkey a x {\ngroups *\n}\n}\n}\n&(b) {\nedgerelay_publish {\nkey b y {\ngroups *\n}\n}\n}\n" +
			":9 {\n@a host a\n@b host b\ninvoke @a a\ninvoke @b b\n}",
		"a hash tag as prefix": "{\nadmin off\nauto_https off\nedgerelay {\nauth none\nchannel_layer redis {\nprefix {asgi}\n}\n}\n}\n:9 {\nedgerelay\n}",
		"a hash tag with a placeholder": "{\nadmin off\nauto_https off\nedgerelay {\nauth none\nchannel_layer redis {\n" +
			"prefix \"{asgi-{env.EDGE_PREFIX}}-{env.EDGE_PREFIX}\"\n}\n}\n}\n:9 {\nedgerelay\n}",
		"publish, two sites":    routeFile("", "}\nedgerelay_publish {\nkey a x {\ngroups *\n}\n}\n}\n:10 {\nedgerelay_publish {\nkey b y {\ngroups *\n}"),
		"publish, two hosts":    "{\nadmin off\nauto_https off\nedgerelay {\nauth none\n}\n}\nhttp://a:9 {\nedgerelay_publish {\nkey a x {\ngroups *\n}\n}\n}\nhttp://b:9 {\nedgerelay_publish {\nkey b y {\ngroups *\n}\n}\n}",
		"routes, in order":      routeFile("", "route /ws/chat/ {\ngroups a\n}\nroute /ws/* {\ngroups b\n}"),
		"routes beside":         routeFile("", "route /ws/{id:[0-9]+}/ {\ngroups a\n}\nroute /ws/{name}/ {\ngroups b\n}"),
		"route, one character":  routeFile("", "route /ws/room? {\ngroups a\n}"),
		"first of a history":    routeFile("history a", "route /ws/ {\ngroups a\nfirst history 5\n}"),
		"first of a template":   routeFile("history chat_*", "route /ws/{room}/ {\ngroups chat_{room}\nfirst history 5\n}"),
		"prefix":                global("auth none\nchannel_layer redis {\nprefix {env.EDGE_PREFIX}\n}"),
		"drain by a block":      global("auth none\ndrain {\nduration 5s\nrate 10\n}"),
		"drain by both":         global("auth none\ndrain 5s {\nrate 10\n}"),
		"dns with a port":       global("auth none\nbackplane {\nsecret x\ndns relay {\nport 81\n}\n}"),
		"SRV":                   global("auth none\nbackplane {\nsecret x\ndns _relay._tcp.example.com\n}"),
		"no limit of the queue": global("auth none\nlimits {\nqueue_per_connection 0\n}"),
	} {
		t.Run(name, func(t *testing.T) {
			if err := validate(file); err != nil {
				t.Error(err)
			}
		})
	}
}
