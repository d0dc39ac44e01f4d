package cli

import (
	"slices"
	"strings"
	"testing"
)

// moduleHash is that of a module.
var moduleHash = strings.Repeat("ab", 32)

// Every command that changes what clients get asks on a terminal, and not otherwise or with -y. The answer concerns the
// modules that were shown.
func TestQuestions(t *testing.T) {
	t.Parallel()
	address, changes := fakeAdmin(t, map[string]string{
		"/edgerelay/plugins/redact":  `{"name": "redact", "hash": "` + moduleHash + `", "from": "deployment"}`,
		"/edgerelay/drain":           `{"state": "off", "open": 3}`,
		"/edgerelay/connections":     `{"total": 2, "connections": []}`,
		"/edgerelay/groups/a/replay": `{"clients": 1}`,
	})
	expects := ` "` + moduleHash + `"`
	for _, c := range []struct{ command, question, change, asked string }{
		{"plugin rollback redact", "Roll it back", "POST /edgerelay/plugins/redact/rollback", expects + " none"},
		{"plugin promote redact", "Promote the candidate", "POST /edgerelay/plugins/redact/promote", expects + " none"},
		{"plugin canary redact --share 5%", "5% of the groups?", "PUT /edgerelay/plugins/redact/canary", expects + " none"},
		{"plugin undeploy redact", "Take the deployment back", "DELETE /edgerelay/plugins/redact/deployment", expects},
		{"drain --rate 5", "Evict 3 clients", "POST /edgerelay/drain", ""},
		{"connection close --user u", "Close 2 connections?", "POST /edgerelay/connections/close", ""},
		{"group replay a --since 5m", "Tell them?", "POST /edgerelay/groups/a/replay", ""},
	} {
		for _, way := range []struct {
			name, answer, flag, asks, want string
			terminal                       bool
		}{
			{name: "no terminal", want: c.change},
			{name: "no", terminal: true, answer: "n\n", asks: c.question},
			{name: "yes", terminal: true, answer: "y\n", asks: c.question, want: c.change + c.asked},
			{name: "-y", terminal: true, flag: "-y", want: c.change},
			{name: "JSON", terminal: true, answer: "n\n", flag: "--json", asks: c.question},
		} {
			words := append([]string{"caddy", "edgerelay"}, strings.Fields(c.command)...)
			cmd := program(t, append(words, "--address", address)...)
			if way.flag != "" {
				cmd.Args = append(cmd.Args, way.flag)
			}
			if way.terminal {
				cmd.Env = append(cmd.Env, asOnTerminal+"=1")
			}
			cmd.Stdin = strings.NewReader(way.answer)
			out := runProgram(t, cmd)
			asked := out.stdout
			if way.flag == "--json" {
				asked = out.stderr
			}
			if strings.Contains(asked, "[y/N]") != (way.asks != "") || !strings.Contains(asked, way.asks) {
				t.Errorf("%s: %s: question %q, want %q", c.command, way.name, asked, way.asks)
			}
			var want []string
			if way.want != "" {
				want = []string{way.want}
			}
			if got := changes(); !slices.Equal(got, want) {
				t.Errorf("%s: %s: requests %q, want %q; %+v", c.command, way.name, got, want, out)
			}
		}
	}
}
