package django

import (
	"net/http"
	"net/url"
	"testing"
)

// A page with notifications for users who log in with Django's sessions.
func TestNotifications(t *testing.T) {
	example{name: "notifications", script: notificationsScript, prepare: []string{"migrate", "demo"}}.compare(t)
}

var notificationsScript = script{
	play: func(p *play) {
		notify := func(from, to, text string) {
			p.Helper()
			if got := p.post(from, "/notify/", url.Values{"user": {to}, "text": {text}}); got != http.StatusNoContent {
				p.Fatalf("notify: %d", got)
			}
		}
		p.connect("nobody", "/ws/notifications/")
		p.logIn("alice")
		p.logIn("bob")
		p.connect("alice", "/ws/notifications/")
		p.hear("alice", 1)
		notify("bob", "alice", "Grüße")
		p.hear("alice", 1)
		notify("alice", "bob", "for bob, who has no page open")
		notify("alice", "alice", `second <&> "one" 👋`)
		p.hear("alice", 1)
		p.connect("alice 2", "/ws/notifications/")
		p.connect("bob", "/ws/notifications/")
		p.hear("alice 2", 1)
		p.hear("bob", 1)
		if got := p.post("alice", "/read/", nil); got != http.StatusNoContent {
			p.Fatalf("read: %d", got)
		}
		p.hear("alice", 1)
		p.hear("alice 2", 1)
		notify("alice", "bob", "last")
		notify("alice", "alice", "last")
		for _, name := range []string{"alice", "alice 2", "bob"} {
			p.hear(name, 1)
		}
		p.connectFrom("https://elsewhere.example", "bob 2", "/ws/notifications/")
		p.post("bob", "/logout/", nil)
		p.connect("bob 3", "/ws/notifications/")
	},
	want: `
nobody: status 403
alice: open
alice: {"unread": 0}
alice: {"kind": "created", "id": 1, "text": "Gr\u00fc\u00dfe", "unread": 1}
alice: {"kind": "created", "id": 3, "text": "second <&> \"one\" \ud83d\udc4b", "unread": 2}
alice 2: open
bob: open
alice 2: {"unread": 2}
bob: {"unread": 1}
alice: {"kind": "read", "unread": 0}
alice 2: {"kind": "read", "unread": 0}
alice: {"kind": "created", "id": 5, "text": "last", "unread": 1}
alice 2: {"kind": "created", "id": 5, "text": "last", "unread": 1}
bob: {"kind": "created", "id": 4, "text": "last", "unread": 2}
bob 2: status 403
bob 3: status 403
`,
}
