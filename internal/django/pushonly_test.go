package django

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

const pushOnly = "internal/django/testdata/pushonly"

// maxRouteLines is the number of lines of a Caddyfile that a consumer may need.
const maxRouteLines = 15

// emit sends a message to a group, see [peers.Layer.SendLiteral].
func (p *play) emit(group, message string) {
	p.Helper()
	p.emitter.SendLiteral(group, message)
}

// members waits until a group has a number of members in Redis.
func (p *play) members(group string, number int) {
	p.Helper()
	testkit.EventuallyWithin(p, patience, fmt.Sprintf("%d members of %s", number, group), func() error {
		if members := p.emitter.Members(p.redis.URL, group); len(members) != number {
			return fmt.Errorf("the members are %q", members)
		}
		return nil
	})
}

// Thirteen consumers that only push, one of each kind that the sample of public consumers has: the same script against
// Daphne, and against routes before uWSGI, where no Python process holds a WebSocket.
func TestPushOnly(t *testing.T) {
	t.Run("daphne", func(t *testing.T) {
		redis := peers.StartRedis(t)
		site := peers.NewDjangoSite(t, pushOnly, redis.URL)
		site.Manage("migrate", "--verbosity", "0")
		site.Manage("demo")
		url, _ := site.StartDaphne()
		playPushOnly(t, url, redis)
	})
	t.Run("relay", func(t *testing.T) {
		redis := peers.StartRedis(t)
		site := peers.NewDjangoSite(t, pushOnly, redis.URL)
		site.Manage("migrate", "--verbosity", "0")
		site.Manage("demo")
		playPushOnly(t, peers.StartRelay(t, pushOnlyCaddyfile(t, redis.URL, site.StartUWSGI())).URL, redis)
	})
}

// playPushOnly plays the scripts of all consumers on one site.
func playPushOnly(t *testing.T, url string, redis *peers.Redis) {
	t.Helper()
	emitter := peers.StartEmitter(t, redis.URL)
	for name, s := range pushOnlyScripts {
		t.Run(name, func(t *testing.T) { s.run(t, url, redis, emitter) })
	}
}

// pushOnlyCaddyfile returns a Caddyfile with the routes of all consumers. Each of them fits on a few lines.
func pushOnlyCaddyfile(t *testing.T, redisURL, uwsgi string) string {
	t.Helper()
	var routes strings.Builder
	for name := range pushOnlyScripts {
		text, err := os.ReadFile(filepath.Join("testdata", "pushonly", "routes", name))
		if err != nil {
			t.Fatal(err)
		}
		if lines := strings.Count(string(text), "\n"); lines > maxRouteLines {
			t.Errorf("the route of %s has %d lines, want at most %d", name, lines, maxRouteLines)
		}
		for line := range strings.Lines(string(text)) {
			routes.WriteString("\t\t" + line)
		}
	}
	return readdress(t, `{
	edgerelay {
		channel_layer redis redis://127.0.0.1:6379/0
		auth none
	}
}
{$SITE} {
	edgerelay {
`+routes.String()+`	}
	reverse_proxy 127.0.0.1:8000 {
		transport uwsgi
	}
}
`, map[string]string{"redis://127.0.0.1:6379/0": redisURL, "127.0.0.1:8000": uwsgi})
}

// pushOnlyScripts are the scripts of the consumers, by name.
var pushOnlyScripts = map[string]script{
	"order": {
		play: func(p *play) {
			p.connect("nobody", "/ws/order/17/")
			p.connect("slash", "/ws/order/17")
			p.connect("other", "/ws/order/18/")
			for _, e := range []string{
				`{"type": "order.changed", "id": 17, "state": "shipped", "total": 12.5, "internal": "hidden"}`,
				`{"type": "order.changed", "total": None, "state": "Grüße <&> \"👋\"", "id": "17"}`,
				`{"type": "order.changed", "id": True, "state": ["a", {"b": 1.0, "c": -0.25}], "total": 1e16}`,
				`{"type": "order.changed", "id": 9007199254740993, "state": {}, "total": 0.1}`,
				`{"type": "order.changed", "id": -1, "state": [], "total": 1e-7}`,
			} {
				p.emit("order_17", e)
			}
			p.emit("order_18", `{"type": "order.changed", "id": 18, "state": "new", "total": 1}`)
			p.hear("nobody", 5)
			p.hear("slash", 5)
			p.hear("other", 1)
		},
		want: `
nobody: open
slash: open
other: open
nobody: {"id": 17, "state": "shipped", "total": 12.5}
nobody: {"id": "17", "state": "Gr\u00fc\u00dfe <&> \"\ud83d\udc4b\"", "total": null}
nobody: {"id": true, "state": ["a", {"b": 1.0, "c": -0.25}], "total": 1e+16}
nobody: {"id": 9007199254740993, "state": {}, "total": 0.1}
nobody: {"id": -1, "state": [], "total": 1e-07}
slash: {"id": 17, "state": "shipped", "total": 12.5}
slash: {"id": "17", "state": "Gr\u00fc\u00dfe <&> \"\ud83d\udc4b\"", "total": null}
slash: {"id": true, "state": ["a", {"b": 1.0, "c": -0.25}], "total": 1e+16}
slash: {"id": 9007199254740993, "state": {}, "total": 0.1}
slash: {"id": -1, "state": [], "total": 1e-07}
other: {"id": 18, "state": "new", "total": 1}
`,
	},
	"inbox": {
		play: func(p *play) {
			p.connect("nobody", "/ws/inbox/")
			p.logIn("alice")
			p.logIn("bob")
			p.connect("alice", "/ws/inbox/")
			p.connect("alice 2", "/ws/inbox/")
			p.connect("bob", "/ws/inbox/")
			p.emit("inbox_1", `{"type": "inbox.message", "text": "{\"raw\":  \"as the emitter wrote it, ä\"}"}`)
			p.emit("inbox_1", `{"type": "inbox.message", "text": "no JSON"}`)
			p.emit("inbox_2", `{"type": "inbox.message", "text": "for bob"}`)
			p.hear("alice", 2)
			p.hear("alice 2", 2)
			p.hear("bob", 1)
		},
		want: `
nobody: status 403
alice: open
alice 2: open
bob: open
alice: {"raw":  "as the emitter wrote it, ä"}
alice: no JSON
alice 2: {"raw":  "as the emitter wrote it, ä"}
alice 2: no JSON
bob: for bob
`,
	},
	"feed": {
		play: func(p *play) {
			p.connect("nobody", "/ws/feed/")
			p.connect("more", "/ws/feed/")
			p.emit("feed", `{"type": "feed.item", "z": 1, "a": {"type": "inner", "b": [1, 2.0, None]}, "text": "ä"}`)
			p.emit("feed", `{"first": 1, "type": "feed.item"}`)
			p.hear("nobody", 2)
			p.hear("more", 2)
		},
		want: `
nobody: open
more: open
nobody: {"type": "feed.item", "z": 1, "a": {"type": "inner", "b": [1, 2.0, null]}, "text": "\u00e4"}
nobody: {"first": 1, "type": "feed.item"}
more: {"type": "feed.item", "z": 1, "a": {"type": "inner", "b": [1, 2.0, null]}, "text": "\u00e4"}
more: {"first": 1, "type": "feed.item"}
`,
	},
	"badge": {
		play: func(p *play) {
			p.connect("nobody", "/ws/badge/")
			p.logIn("alice")
			p.logIn("bob")
			p.connect("alice", "/ws/badge/")
			p.connect("bob", "/ws/badge/")
			p.emit("badge_1", `{"type": "badge.count", "count": 4}`)
			p.emit("badge_2", `{"type": "badge.count", "count": 5}`)
			p.hear("alice", 2)
			p.hear("bob", 2)
		},
		want: `
nobody: status 403
alice: open
bob: open
alice: {"unread": 3, "for": "alice"}
alice: {"unread": 4}
bob: {"unread": 3, "for": "bob"}
bob: {"unread": 5}
`,
	},
	"camera": {
		play: func(p *play) {
			p.connect("nobody", "/ws/camera/yard/")
			p.connect("other", "/ws/camera/door/")
			p.emit("camera.yard", `{"type": "camera.frame", "jpeg": b"\xff\xd8\xff\xe0\x00\x00\xff", "number": 1}`)
			p.emit("camera.yard", `{"type": "camera.state", "state": "recording"}`)
			p.emit("camera.yard", `{"type": "camera.frame", "jpeg": b"\x00", "number": 2}`)
			p.emit("camera.door", `{"type": "camera.frame", "jpeg": b"\x01\x02\x03", "number": 1}`)
			p.hear("nobody", 3)
			p.hear("other", 1)
		},
		want: `
nobody: open
other: open
nobody: bytes ffd8ffe00000ff
nobody: recording
nobody: bytes 00
other: bytes 010203
`,
	},
	"task": {
		play: func(p *play) {
			p.connect("nobody", "/ws/task/a7/")
			for _, e := range []string{
				`{"type": "task.started"}`,
				`{"type": "task.progress", "percent": 12.5, "step": "copying", "eta": 3}`,
				`{"type": "task.touched", "by": "someone"}`,
				`{"type": "task.log", "line": "copied 3 files"}`,
				`{"type": "task.finished", "result": {"files": 3, "errors": [], "ok": True}}`,
				`{"type": "task.finished", "result": [1, None]}`,
				`{"type": "task.finished", "result": "a string"}`,
				`{"type": "task.finished", "result": None}`,
			} {
				p.emit("task-a7", e)
			}
			p.hear("nobody", 7)
		},
		want: `
nobody: open
nobody: started
nobody: {"percent": 12.5, "step": "copying"}
nobody: copied 3 files
nobody: {"files": 3, "errors": [], "ok": true}
nobody: [1, null]
nobody: "a string"
nobody: null
`,
	},
	"dashboard": {
		play: func(p *play) {
			p.connect("nobody", "/ws/dashboard/north/")
			p.logIn("alice")
			p.logIn("bob")
			p.connect("alice", "/ws/dashboard/north/")
			p.connect("bob", "/ws/dashboard/south/")
			p.emit("announcements", `{"type": "dashboard.update", "widget": "banner", "value": "hello"}`)
			p.emit("site_north", `{"type": "dashboard.update", "widget": "load", "value": 0.75}`)
			p.emit("alerts_2", `{"type": "dashboard.update", "widget": "alert", "value": {"level": 3}}`)
			p.emit("alerts_1", `{"type": "dashboard.update", "widget": "alert", "value": None}`)
			p.emit("announcements", `{"type": "dashboard.update", "widget": "banner", "value": "last"}`)
			p.hear("alice", 4)
			p.hear("bob", 3)
		},
		want: `
nobody: status 403
alice: open
bob: open
alice: {"widget": "banner", "value": "hello"}
alice: {"widget": "load", "value": 0.75}
alice: {"widget": "alert", "value": null}
alice: {"widget": "banner", "value": "last"}
bob: {"widget": "banner", "value": "hello"}
bob: {"widget": "alert", "value": {"level": 3}}
bob: {"widget": "banner", "value": "last"}
`,
	},
	"staff": {
		play: func(p *play) {
			p.connect("nobody", "/ws/staff/")
			p.logIn("alice")
			p.logIn("bob")
			p.connect("alice", "/ws/staff/")
			p.connect("bob", "/ws/staff/")
			p.emit("staff", `{"type": "audit.entry", "who": "bob", "what": "logged in"}`)
			p.hear("alice", 1)
		},
		want: `
nobody: status 403
alice: open
bob: status 403
alice: {"who": "bob", "what": "logged in"}
`,
	},
	"ticker": {
		play: func(p *play) {
			p.connect("nobody", "/ws/ticker/xetra/?symbol=SAP&depth=1")
			p.connect("other", "/ws/ticker/xetra/?symbol=BMW")
			p.emit("ticker_xetra_SAP", `{"type": "tick", "bid": 101.25, "ask": 101.5}`)
			p.emit("ticker_xetra_BMW", `{"type": "tick", "bid": 80, "ask": 81.0}`)
			p.hear("nobody", 1)
			p.hear("other", 1)
		},
		want: `
nobody: open
other: open
nobody: {"bid": 101.25, "ask": 101.5}
other: {"bid": 80, "ask": 81.0}
`,
	},
	"cleanup": {
		play: func(p *play) {
			p.connect("nobody", "/ws/cleanup/d1/")
			p.emit("document_d1", `{"type": "document.saved", "revision": 4}`)
			p.emit("comments_d1", `{"type": "document.comment", "text": "typo"}`)
			p.hear("nobody", 2)
			p.leave("nobody")
			p.members("document_d1", 0)
			p.members("comments_d1", 0)
			p.emit("document_d1", `{"type": "document.saved", "revision": 5}`)
			p.connect("again", "/ws/cleanup/d1/")
			p.emit("document_d1", `{"type": "document.saved", "revision": 6}`)
			p.hear("again", 1)
		},
		want: `
nobody: open
nobody: {"revision": 4}
nobody: {"comment": "typo"}
again: open
again: {"revision": 6}
`,
	},
	"price": {
		play: func(p *play) {
			p.connect("nobody", "/ws/price/SAP/")
			p.emit("price_SAP", `{"type": "price.changed", "symbol": "SAP", "price": 101.25, "volume": 7}`)
			p.hear("nobody", 1)
		},
		want: `
nobody: open
nobody: {"event": "price.changed", "symbol": "SAP", "last": 101.25}
`,
	},
	"kinds": {
		play: func(p *play) {
			p.connect("nobody", "/ws/kinds/")
			p.emit("kinds", `{"type": "kinds.order", "order": {"id": 7}}`)
			p.emit("kinds", `{"type": "kinds.toast", "title": "Saved"}`)
			p.emit("kinds", `{"type": "kinds.reload"}`)
			p.hear("nobody", 3)
		},
		want: `
nobody: open
nobody: {"kind": "order", "version": 2, "order": {"id": 7}}
nobody: {"kind": "toast", "title": "Saved", "level": "info", "sticky": false}
nobody: {"kind": "reload"}
`,
	},
	"room": {
		play: func(p *play) {
			p.connect("nobody", "/ws/room/")
			p.connect("other", "/ws/room/")
			p.send("nobody", `{"subscribe": "a"}`)
			p.members("room_a", 1)
			p.emit("room_a", `{"type": "room.news", "room": "a", "news": "first"}`)
			p.hear("nobody", 1)
			p.send("nobody", `{"subscribe": "b"}`)
			p.send("other", `{"subscribe": 17}`)
			p.members("room_b", 1)
			p.members("room_17", 1)
			p.send("nobody", `{"unsubscribe": "a"}`)
			p.members("room_a", 0)
			p.emit("room_a", `{"type": "room.news", "room": "a", "news": "missed"}`)
			p.emit("room_b", `{"type": "room.news", "room": "b", "news": ["x"]}`)
			p.emit("room_17", `{"type": "room.news", "room": 17, "news": None}`)
			p.hear("nobody", 1)
			p.hear("other", 1)
		},
		want: `
nobody: open
other: open
nobody: {"room": "a", "news": "first"}
nobody: {"room": "b", "news": ["x"]}
other: {"room": 17, "news": null}
`,
	},
}
