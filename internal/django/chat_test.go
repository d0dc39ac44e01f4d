package django

import (
	"net/http"
	"net/url"
	"strconv"
	"testing"
)

// The chat of the Channels tutorial.
func TestChat(t *testing.T) {
	example{name: "chat", script: chatScript}.compare(t)
}

var chatScript = script{
	play: func(p *play) {
		p.connect("alice", "/ws/chat/lobby/")
		p.connect("bob", "/ws/chat/lobby/")
		p.connect("carol", "/ws/chat/other/")
		p.send("alice", `{"message": "hello"}`)
		p.hear("alice", 1)
		p.hear("bob", 1)
		for i := range 4 {
			p.send([]string{"alice", "bob"}[i%2], `{"message":"`+strconv.Itoa(i)+`"}`)
			p.hear("alice", 1)
			p.hear("bob", 1)
		}
		p.send("bob", `{"message": "Grüße \"<&>\" 👋 \u2028 `+"\u2029"+` \u0001 \ud83d\udc4b/", "extra": [1, 2.50]}`)
		p.hear("alice", 1)
		p.hear("bob", 1)
		for _, value := range []string{`""`, `17`, `1.50`, `1e3`, `true`, `null`, `["a", {"b":1}]`} {
			p.send("alice", `{"message": `+value+`}`)
			p.hear("bob", 1)
			p.hear("alice", 1)
		}
		// A view of the site emits as well.
		if got := p.post("alice", "/chat/lobby/", url.Values{"message": {"from the site"}}); got != http.StatusNoContent {
			p.Errorf("the view answers %d", got)
		}
		p.hear("alice", 1)
		p.hear("bob", 1)
		// Whoever comes later gets later messages; whoever leaves disturbs no one.
		p.connect("dave", "/ws/chat/lobby/")
		p.leave("alice")
		p.send("dave", `{"message": "last"}`)
		p.hear("bob", 1)
		p.hear("dave", 1)
		p.send("carol", `{"message": "alone"}`)
		p.hear("carol", 1)
		// What Channels' own validators and routes refuse.
		p.connectFrom("https://elsewhere.example", "mallory", "/ws/chat/lobby/")
	},
	want: `
alice: open
bob: open
carol: open
alice: {"message": "hello"}
bob: {"message": "hello"}
alice: {"message": "0"}
bob: {"message": "0"}
alice: {"message": "1"}
bob: {"message": "1"}
alice: {"message": "2"}
bob: {"message": "2"}
alice: {"message": "3"}
bob: {"message": "3"}
alice: {"message": "Gr\u00fc\u00dfe \"<&>\" \ud83d\udc4b \u2028 \u2029 \u0001 \ud83d\udc4b/"}
bob: {"message": "Gr\u00fc\u00dfe \"<&>\" \ud83d\udc4b \u2028 \u2029 \u0001 \ud83d\udc4b/"}
bob: {"message": ""}
alice: {"message": ""}
bob: {"message": 17}
alice: {"message": 17}
bob: {"message": 1.5}
alice: {"message": 1.5}
bob: {"message": 1000.0}
alice: {"message": 1000.0}
bob: {"message": true}
alice: {"message": true}
bob: {"message": null}
alice: {"message": null}
bob: {"message": ["a", {"b": 1}]}
alice: {"message": ["a", {"b": 1}]}
alice: {"message": "from the site"}
bob: {"message": "from the site"}
dave: open
bob: {"message": "last"}
dave: {"message": "last"}
carol: {"message": "alone"}
mallory: status 403
`,
}
