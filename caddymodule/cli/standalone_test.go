package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// nowhere is an address without an admin API.
const nowhere = "--address=localhost:1"

// A Caddy named edgerelay has the relay's commands as its own, beside Caddy's. Under other names nothing changes.
func TestProgramNamedEdgerelay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		words, stdout, stderr string
		code                  int
	}{
		{"edgerelay status " + nowhere, "", "localhost:1", 3},
		{"/usr/bin/edgerelay status " + nowhere, "", "localhost:1", 3},
		{"edgerelay.exe status " + nowhere, "", "localhost:1", 3},
		{"edgerelay edgerelay status " + nowhere, "", "localhost:1", 3},
		{"edgerelay plugin list " + nowhere, "", "localhost:1", 3},
		{"edgerelay list-modules", "Standard modules", "", 0},
		{"edgerelay run --nonsense", "", "Error: unknown flag: --nonsense", 1},
		{"edgerelay stauts", "", `error: unknown command "stauts"; did you mean start or status?`, 2},
		{"edgerelay help stauts", "", `error: unknown command "stauts"; did you mean start or status?`, 2},
		{"edgerelay nonsense", "", "'edgerelay --help' lists the commands", 2},
		{"edgerelay status --nonsense", "", "'edgerelay status --help' lists the flags", 2},
		{"edgerelay --nonsense", "", "unknown flag --nonsense; 'edgerelay --help'", 2},
		{"edgerelay tail", "", "no group", 2},
		{"edgerelay", "Commands of the relay:", "", 0},
		{"caddy edgerelay status " + nowhere, "", "localhost:1", 3},
		{"caddy status", "", `unknown command "status" for "caddy"`, 1},
		{"caddy edgerelays status", "", `unknown command "edgerelays" for "caddy"`, 1},
		{"caddy --help", "Caddy is an extensible server platform", "", 0},
	} {
		t.Run(c.words, func(t *testing.T) {
			out := runProgram(t, program(t, strings.Fields(c.words)...))
			if out.code != c.code || !strings.Contains(out.stdout, c.stdout) || !strings.Contains(out.stderr, c.stderr) ||
				(c.stdout == "") != (out.stdout == "") || c.stderr != "" && strings.Count(out.stderr, "rror: ") != 1 {
				t.Errorf("exit code %d, want %d; stdout %q, stderr %q", out.code, c.code, out.stdout, out.stderr)
			}
		})
	}
}

// --version is the command version, under both names.
func TestVersionFlag(t *testing.T) {
	t.Parallel()
	want := runProgram(t, program(t, "edgerelay", "version"))
	if want.code != 0 || !strings.HasPrefix(want.stdout, "edgerelay ") || strings.Count(want.stdout, "\n") != 3 {
		t.Errorf("edgerelay version: %+v", want)
	}
	for _, words := range []string{
		"edgerelay --version", "edgerelay -v", "caddy edgerelay --version", "caddy edgerelay version",
	} {
		if got := runProgram(t, program(t, strings.Fields(words)...)); got != want {
			t.Errorf("%s: %+v, want %+v", words, got, want)
		}
	}
	if got := runProgram(t, program(t, "caddy", "--version")); got == want || got.code != 0 {
		t.Errorf("caddy --version: %+v", got)
	}
}

// The help names the commands as they are called.
func TestHelpOfProgramNamedEdgerelay(t *testing.T) {
	t.Parallel()
	root := runProgram(t, program(t, "edgerelay", "--help"))
	for _, want := range []string{"\n  status ", "\n  run ", "\n  completion ", "edgerelay status\n", "Documentation: "} {
		if !strings.Contains(root.stdout, want) {
			t.Errorf("edgerelay --help: no %q in\n%s", want, root.stdout)
		}
	}
	for _, never := range []string{"extensible server platform", "caddy edgerelay", "\n  edgerelay  "} {
		if strings.Contains(root.stdout, never) {
			t.Errorf("edgerelay --help: %q in\n%s", never, root.stdout)
		}
	}
	for _, command := range []string{"status", "plugin deploy", "version"} {
		words := strings.Fields(command)
		got := runProgram(t, program(t, slices.Concat([]string{"edgerelay", "help"}, words)...))
		flag := runProgram(t, program(t, slices.Concat([]string{"edgerelay"}, words, []string{"--help"})...))
		if got != flag || got.code != 0 || !strings.Contains(got.stdout, "\n  edgerelay "+command) ||
			strings.Contains(got.stdout, "caddy edgerelay") {
			t.Errorf("help %s: %+v; --help: %+v", command, got, flag)
		}
	}
	caddys := runProgram(t, program(t, "edgerelay", "help", "run"))
	if !strings.Contains(caddys.stdout, "edgerelay run") || !strings.Contains(caddys.stdout, "caddyserver.com") {
		t.Errorf("help run: %+v", caddys)
	}
}

// The shell completes commands of both kinds, groups and plugins.
func TestCompletionOfProgramNamedEdgerelay(t *testing.T) {
	t.Parallel()
	address, _ := fakeAdmin(t, map[string]string{
		"/edgerelay/groups":  `{"total": 1, "groups": [{"group": "jobs-7"}]}`,
		"/edgerelay/plugins": `[{"name": "redact"}]`,
	})
	for _, c := range []struct{ words, want []string }{
		{[]string{"st"}, []string{"start", "status", "stop", "storage"}},
		{[]string{"help", "sta"}, []string{"start", "status"}},
		{[]string{"plugin", "dep"}, []string{"deploy"}},
		{[]string{"group", "list", "--so"}, []string{"--sort"}},
		{[]string{"tail", "--address", address, ""}, []string{"jobs-7"}},
		{[]string{"plugin", "logs", "--address", address, ""}, []string{"redact"}},
	} {
		out := runProgram(t, program(t, slices.Concat([]string{"edgerelay", "__completeNoDesc"}, c.words)...))
		got := strings.Split(strings.TrimSpace(out.stdout), "\n")
		if got = got[:len(got)-1]; !slices.Equal(got, c.want) {
			t.Errorf("%q completes to %q, want %q", c.words, got, c.want)
		}
	}
	for shell, want := range map[string]string{
		"bash": "__start_edgerelay edgerelay\n", "zsh": "#compdef edgerelay\n", "fish": "complete -c edgerelay ",
	} {
		out := runProgram(t, program(t, "edgerelay", "completion", shell))
		if out.code != 0 || !strings.Contains(out.stdout, want) {
			t.Errorf("completion %s: exit code %d, no %q", shell, out.code, want)
		}
	}
}

// Caddy's command makes man pages of the relay's commands, too.
func TestManPages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if out := runProgram(t, program(t, "edgerelay", "manpage", "--directory", dir)); out.code != 0 {
		t.Fatalf("%+v", out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "edgerelay-plugin-deploy.8"))
	for _, want := range []string{"deploy <name> <file.wasm|oci://…>", "from <file>"} {
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("no %q (%v): %s", want, err, text)
		}
	}
	for _, page := range []string{"edgerelay.8", "edgerelay-status.8", "edgerelay-run.8"} {
		if _, err := os.Stat(filepath.Join(dir, page)); err != nil {
			t.Error(err)
		}
	}
}
