package main

import (
	"strings"
	"testing"
)

// A wrong block of each language is found.
func TestWrongSnippetsAreFound(t *testing.T) {
	relay := newRelay(t)
	shell := relay.newShell(t)
	const fence = "```"
	for _, c := range []struct{ name, page, want string }{
		{"no language", fence + "\nmake run\n" + fence, "has no language"},
		{"indented", "    make run", "has no language"},
		{"unknown language", fence + "cobol\nSTOP RUN.\n" + fence, "unknown language"},
		{"commands without a mark", fence + "sh\ntrue\n" + fence, "mark the commands"},
		{"marked commands that fail", "<!-- run -->\n" + fence + "sh\nfalse\n" + fence, "exit status 1"},
		{"a console's commands that fail", "<!-- run -->\n" + fence + "console\n$ false\noutput\n" + fence, "exit status 1"},
		{"an unknown make target", "<!-- run -->\n" + fence + "sh\nmake nonsense\n" + fence, "No rule to make target"},
		{"an unknown subcommand", "<!-- run -->\n" + fence + "sh\ncaddy edgerelay nonsense\n" + fence, "exit status"},
		{"an unknown setting", fence + "caddyfile\nedgerelay {\n\tnonsense\n}\n" + fence, "not valid in any place"},
		{"a wrong value", fence + "caddyfile\nlimits {\n\tframe_size -1\n}\n" + fence, "not valid in any place"},
		{"JSON", fence + "json\n{\"a\": }\n" + fence, "invalid character"},
		{"Python", fence + "python\ndef f(:\n" + fence, "invalid syntax"},
		{"Go", fence + "go\nfunc f( {\n" + fence, "expected"},
		{"JavaScript", fence + "js\nconst = 1\n" + fence, "SyntaxError"},
	} {
		t.Run(c.name, func(t *testing.T) {
			blocks := parse([]byte("# Page\n\n" + c.page + "\n")).blocks()
			if len(blocks) != 1 {
				t.Fatalf("%d blocks, want 1", len(blocks))
			}
			if err := tryBlock(t, relay, shell, blocks[0]); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	t.Run("a block that is not run", func(t *testing.T) {
		blocks := parse([]byte("<!-- not run: needs AWX -->\n" + fence + "sh\nfalse\n" + fence + "\n")).blocks()
		if len(blocks) != 1 || blocks[0].skipped != "needs AWX" {
			t.Errorf("blocks %+v, want one with the reason", blocks)
		}
	})
}
