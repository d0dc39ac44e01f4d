package django

import (
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
)

// A page with tickets whose users have JSON Web Tokens.
func TestTokens(t *testing.T) {
	example{name: "tokens", script: tokensScript, prepare: []string{"migrate", "demo"}}.compare(t)
}

var tokensScript = script{
	play: func(p *play) {
		token := map[string]string{}
		for _, name := range []string{"alice", "bob"} {
			answer := p.postJSON("", "/token/", map[string]string{"username": name, "password": peers.Password(name)})
			token[name], _ = answer["token"].(string)
		}
		update := func(team, state string) {
			p.Helper()
			p.postJSON(token["bob"], "/tickets/7/", map[string]string{"team": team, "state": state})
		}
		p.connect("nobody", "/ws/tickets/")
		p.connect("mallory", "/ws/tickets/?token="+token["alice"]+"x")
		p.connect("alice", "/ws/tickets/?token="+token["alice"])
		p.connect("alice 2", "/ws/tickets/", "bearer", token["alice"])
		p.connect("bob", "/ws/tickets/", "bearer", token["bob"])
		update("billing", "open")
		update("support", "opé")
		p.hear("alice", 2)
		p.hear("alice 2", 2)
		p.hear("bob", 1)
		p.postJSON(token["bob"], "/tickets/8/", map[string]any{"assign": 1})
		p.postJSON(token["bob"], "/tickets/9/", map[string]any{"assign": 2})
		update("sales", "for a team without members")
		update("support", "closed")
		p.hear("alice", 2)
		p.hear("alice 2", 2)
		p.hear("bob", 2)
		p.connectFrom("https://elsewhere.example", "bob 2", "/ws/tickets/?token="+token["bob"])
	},
	want: `
nobody: status 403
mallory: status 403
alice: open
alice 2: open bearer
bob: open bearer
alice: {"ticket": 7, "state": "open", "by": "bob"}
alice: {"ticket": 7, "state": "op\u00e9", "by": "bob"}
alice 2: {"ticket": 7, "state": "open", "by": "bob"}
alice 2: {"ticket": 7, "state": "op\u00e9", "by": "bob"}
bob: {"ticket": 7, "state": "op\u00e9", "by": "bob"}
alice: {"ticket": 8, "assigned": true}
alice: {"ticket": 7, "state": "closed", "by": "bob"}
alice 2: {"ticket": 8, "assigned": true}
alice 2: {"ticket": 7, "state": "closed", "by": "bob"}
bob: {"ticket": 9, "assigned": true}
bob: {"ticket": 7, "state": "closed", "by": "bob"}
bob 2: status 403
`,
}
