package cli

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// tree returns the command edgerelay as Caddy has it.
func tree() *cobra.Command {
	root := &cobra.Command{Use: "caddy", SilenceUsage: true}
	cmd := &cobra.Command{Use: "edgerelay <command>", Short: "Commands for the realtime relay"}
	build(cmd)
	root.AddCommand(cmd)
	return cmd
}

// visible calls visit for each command that the help lists.
func visible(visit func(path string, cmd *cobra.Command)) {
	walk(tree(), func(cmd *cobra.Command) {
		if !cmd.Hidden {
			visit(strings.TrimPrefix(cmd.CommandPath(), "caddy "), cmd)
		}
	})
}

// Each command has a help with an example of itself, and a line for lists.
func TestCommandsAreDocumented(t *testing.T) {
	visible(func(path string, cmd *cobra.Command) {
		switch {
		case cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") || len(cmd.Short) > 80:
			t.Errorf("%s: Short %q is empty, ends with a full stop, or is longer than 80 characters", path, cmd.Short)
		case !strings.Contains(cmd.Example, "caddy "+path):
			t.Errorf("%s: the example does not use the command: %q", path, cmd.Example)
		case !cmd.HasSubCommands() && cmd.RunE == nil:
			t.Errorf("%s cannot run", path)
		}
		for line := range strings.Lines(cmd.Long + "\n" + cmd.Example) {
			if len([]rune(line)) > 121 {
				t.Errorf("%s: the help has a line of more than 120 columns: %s", path, line)
			}
		}
	})
}

// The flags of a help fit into 120 columns, as printed.
func TestHelpsOfFlagsAreWrapped(t *testing.T) {
	visible(func(path string, cmd *cobra.Command) {
		_, flags, found := strings.Cut(cmd.UsageString(), "\nFlags:\n")
		if !found && cmd.LocalFlags().HasAvailableFlags() {
			t.Errorf("%s: the usage has no flags", path)
		}
		for line := range strings.Lines(flags) {
			if len([]rune(line)) > 121 {
				t.Errorf("%s: the help has a line of more than 120 columns: %s", path, line)
			}
		}
	})
}

// The usage of a command, which an error about a missing flag shows, has all flags that the command needs.
func TestUsagesHaveRequiredFlags(t *testing.T) {
	visible(func(path string, cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Annotations[cobra.BashCompOneRequiredFlag] != nil && !strings.Contains(cmd.Use, "--"+f.Name+" <") {
				t.Errorf("%s: the usage %q lacks the required --%s", path, cmd.Use, f.Name)
			}
		})
	})
}

// withoutJSON are the commands that print no data: they write files, or run until Ctrl-C for people.
var withoutJSON = []string{"plugin new", "plugin dev", "plugin keygen", "plugin sign", "plugin embed-manifest", "plugin record", "demo"}

// Each command that prints data has --json, and each that calls the relay has --address.
func TestCommandsHaveCommonFlags(t *testing.T) {
	local := []string{
		"plugin new", "plugin dev", "plugin keygen", "plugin sign", "plugin verify", "plugin push", "plugin inspect",
		"plugin embed-manifest", "plugin test", "plugin replay", "version", "demo",
	}
	visible(func(path string, cmd *cobra.Command) {
		if cmd.HasSubCommands() {
			return
		}
		name := strings.TrimPrefix(path, "edgerelay ")
		if has := cmd.Flags().Lookup("json") != nil; has == slices.Contains(withoutJSON, name) {
			t.Errorf("%s: --json: %v", name, has)
		}
		if has := cmd.Flags().Lookup("address") != nil; has == slices.Contains(local, name) {
			t.Errorf("%s: --address: %v", name, has)
		}
	})
}

// A flag has one type in all commands, and a shorthand stands for one flag.
func TestFlagsAreConsistent(t *testing.T) {
	type use struct{ path, kind string }
	first, byShorthand := map[string]use{}, map[string]string{}
	exceptions := map[string]bool{
		"class": true, // one to follow, several to render
		"for":   true, // a duration; of a plugin, text that the relay parses
		// A duration; of a drain, text that the relay parses, with days.
		"duration": true,
		"key":      true, // one that signs, several that verify
	}
	visible(func(path string, cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Hidden || exceptions[f.Name] {
				return
			}
			now := use{path, f.Value.Type()}
			before, seen := first[f.Name]
			if !seen {
				first[f.Name] = now
			} else if before.kind != now.kind {
				t.Errorf("--%s differs: %+v and %+v", f.Name, before, now)
			}
			if name, seen := byShorthand[f.Shorthand]; f.Shorthand != "" && seen && name != f.Name {
				t.Errorf("-%s of %s is --%s, and --%s elsewhere", f.Shorthand, path, f.Name, name)
			}
			byShorthand[f.Shorthand] = f.Name
			if strings.ContainsAny(f.Name, "_ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
				t.Errorf("--%s of %s: write names in lower case, with hyphens", f.Name, path)
			}
			if f.Usage == "" || strings.HasSuffix(f.Usage, ".") {
				t.Errorf("--%s of %s: the help %q is empty or ends with a full stop", f.Name, path, f.Usage)
			}
		})
	})
	for a := range first {
		for b := range first {
			if plain := strings.ReplaceAll(a, "-", ""); a != b && plain == strings.ReplaceAll(b, "-", "") {
				t.Errorf("--%s and --%s are one word in two spellings", a, b)
			}
		}
	}
}

// Each wrong command line is one line on stderr with a remedy, and the exit code 2.
func TestUsageErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"unknown command", []string{"stauts"}, `unknown command "stauts"; did you mean status?`},
		{"unknown command of a group", []string{"plugin", "depoly", "x", "y"}, "did you mean deploy?"},
		{"unlike any", []string{"nonsense"}, "'caddy edgerelay --help' lists the commands"},
		{"unknown flag", []string{"status", "--adress", "x"}, "unknown flag --adress; did you mean --address?"},
		{"unlike any flag", []string{"status", "--nonsense"}, "'caddy edgerelay status --help' lists the flags"},
		{"unknown shorthand", []string{"status", "-z"}, "unknown flag -z"},
		{"flag without a value", []string{"status", "--address"}, "--address: no value; use a text"},
		{"no number", []string{"tail", "x", "--count", "many"}, `--count: invalid value "many"; use a whole number`},
		{"no duration", []string{"tail", "x", "--for", "long"}, `--for: invalid value "long"; use a duration`},
		{"too many arguments", []string{"status", "x"}, `unexpected argument "x"; usage: caddy edgerelay status`},
		{"too few", []string{"plugin", "deploy", "x"}, "missing <file.wasm|oci://…>; usage: caddy edgerelay plugin deploy <name> <file.wasm"},
		{"none", []string{"plugin", "rollback"}, "missing <name>; usage"},
		{"none of several", []string{"plugin", "test"}, "missing <file.wasm> and <samples.ndjson|->; usage"},
		{"help of no command", []string{"help", "stauts"}, `unknown command "stauts"; did you mean status?`},
		{"required flag", []string{"plugin", "sign", "x.wasm"}, `"key" not set`},
		{"missing data", []string{"publish", "--group", "x"}, "set both --group and --data"},
		{"no JSON", []string{"publish", "--group", "x", "--data", "{"}, "--data is not JSON"},
		{"two wishes", []string{"drain", "--cancel", "--wait"}, "use one of --cancel"},
		{"no group", []string{"tail"}, "no group"},
		{"no selection", []string{"connection", "close"}, "no connections selected"},
		{"no place", []string{"bench"}, "--url"},
		{"invalid address", []string{"status", "--address", "localhost:1-9"}, "invalid address"},
		{"invalid header", []string{"doctor", "--header", "secret"}, `invalid --header; use "Name: value"`},
		{"negative limit", []string{"group", "list", "--limit", "0"}, "--limit"},
		{"negative rate", []string{"drain", "--rate", "-5"}, "--rate: invalid value -5"},
		{"rate that is no number", []string{"drain", "--rate", "NaN"}, "--rate: invalid value NaN"},
		{"negative interval", []string{"top", "--every", "-1s"}, `--every: invalid value "-1s"; use at least 1s`},
		{"address with TLS", []string{"status", "--address", "https://localhost:2019"}, "no TLS"},
		{"address of another scheme", []string{"status", "--address", "ftp://localhost:2019"}, "invalid address"},
		{"address with a path", []string{"status", "--address", "http://localhost:2019/edgerelay"}, "invalid address"},
		{"address without an admin API", []string{"status", "--address", "off"}, "admin off"},
		{"no user", []string{"connection", "close", "--user", "", "--from", "10.0.0.0/8"}, "--user: empty value"},
		{"no number of a connection", []string{"connection", "close", "--id", "0", "--user", "x"}, "--id: invalid value 0"},
		{"no guard", []string{"plugin", "rollback", "x", "--expect", ""}, "--expect: empty value"},
		{"a user in the address", []string{"status", "--address", "user:s3cret@localhost:18019"}, "invalid address"},
		{"a token in the address", []string{"status", "--address", "http://s3cret@localhost"}, "invalid address"},
		{"a user and TLS", []string{"status", "--address", "https://user:s3cret@localhost"}, "invalid address"},
		{"a user with a slash", []string{"status", "--address", "user:s3cret/x@localhost"}, "invalid address"},
		{"a user of the demo", []string{"demo", "--port", "1", "--admin", "user:s3cret@localhost:1-9"}, "--admin: invalid address"},
		{"a user in a URL", []string{"bench", "--url", "user:s3cret@localhost"}, "--url: invalid URL"},
		{"a user with a slash in a URL", []string{"bench", "--url", "ws://user:s3cret/x@localhost/"}, "--url: invalid URL"},
		{"an unknown network", []string{"status", "--address", "foo//run/x.sock"}, "unix//run/edgerelay/admin.sock"},
		{"a host as unix", []string{"status", "--address", "unix://run/x.sock"}, "unix//run/edgerelay/admin.sock"},
		{"a descriptor of the server", []string{"status", "--address", "fd/3"}, "invalid address"},
		{"white space", []string{"status", "--address", " "}, "invalid address"},
		{"archive and JSON", []string{"support-bundle", "--json", "--output", "-"}, "--json and --output - exclude each other"},
		{"module", []string{"plugin", "embed-manifest", "a", "b", "--output", "-"}, "--output: this command"},
		{"recording", []string{"tail", "x", "--record", "-"}, "--record: this command"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := tree().Root()
			var stdout, stderr bytes.Buffer
			root.SetOut(&stdout)
			root.SetErr(&stderr)
			root.SetArgs(append([]string{"edgerelay"}, c.args...))
			err := root.Execute()
			if err == nil || err.Error() != fmt.Sprint("exiting with status ", exitUsage) {
				t.Errorf("error %v, want exit code %d", err, exitUsage)
			}
			if text := stderr.String(); strings.Count(text, "\n") != 1 || !strings.HasPrefix(text, "error: ") ||
				!strings.Contains(text, c.want) || stdout.Len() > 0 || strings.Contains(text, "s3cret") {
				t.Errorf("stderr %q, want %q; stdout %q", text, c.want, &stdout)
			}
		})
	}
}

// No command takes an empty argument, which would become another path of the admin API.
func TestEmptyArguments(t *testing.T) {
	tried := 0
	visible(func(path string, cmd *cobra.Command) {
		names := argumentNames(cmd.Use)
		if cmd.HasSubCommands() || len(names) == 0 {
			return
		}
		tried++
		words := append(strings.Fields(path), slices.Repeat([]string{"x"}, len(names)-1)...)
		if words = append(words, ""); strings.HasSuffix(path, " push") {
			words = append(words, "oci://x") // the usage has no name for it
		}
		root := tree().Root()
		var stderr bytes.Buffer
		root.SetErr(&stderr)
		root.SetArgs(words)
		want := "<" + strings.TrimSuffix(names[len(names)-1], "...") + "> is empty; usage: caddy " + path
		if err := root.Execute(); err == nil || err.Error() != fmt.Sprint("exiting with status ", exitUsage) ||
			!strings.Contains(stderr.String(), want) {
			t.Errorf("%q: error %v, stderr %q, want %q", words, err, &stderr, want)
		}
	})
	if tried < 15 {
		t.Errorf("%d commands with arguments", tried)
	}
}

// No flag takes an empty value, such as that of an unset variable of a script, but for those that name a meaning for it.
func TestEmptyFlags(t *testing.T) {
	tried := 0
	visible(func(path string, cmd *cobra.Command) {
		if cmd.HasSubCommands() {
			return
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			_, list := f.Value.(pflag.SliceValue)
			if f.Value.Type() != "string" && !list || slices.Contains(mayBeEmpty, f.Name) {
				return
			}
			tried++
			words := append(strings.Fields(path), slices.Repeat([]string{"x"}, len(argumentNames(cmd.Use)))...)
			if strings.HasSuffix(path, " push") {
				words = append(words, "oci://x") // the usage has no name for it
			}
			cmd.LocalFlags().VisitAll(func(other *pflag.Flag) {
				if other.Annotations[cobra.BashCompOneRequiredFlag] != nil && other.Name != f.Name {
					words = append(words, "--"+other.Name, "x")
				}
			})
			root := tree().Root()
			var stderr bytes.Buffer
			root.SetErr(&stderr)
			root.SetArgs(append(words, "--"+f.Name+"="))
			err := root.Execute()
			if err == nil || err.Error() != fmt.Sprint("exiting with status ", exitUsage) ||
				!strings.HasPrefix(stderr.String(), "error: --"+f.Name+": ") {
				t.Errorf("%q --%s=: error %v, stderr %q", words, f.Name, err, &stderr)
			}
		})
	})
	if tried < 80 {
		t.Errorf("%d flags", tried)
	}
}

// `help <command>` is `<command> --help`, as for Caddy's own commands.
func TestHelpCommand(t *testing.T) {
	help := func(args ...string) string {
		root := tree().Root()
		var stdout, stderr bytes.Buffer
		root.SetOut(&stdout)
		root.SetErr(&stderr)
		root.SetArgs(append([]string{"edgerelay"}, args...))
		if err := root.Execute(); err != nil || stderr.Len() > 0 {
			t.Errorf("%q: error %v, stderr %q", args, err, &stderr)
		}
		return stdout.String()
	}
	for _, command := range [][]string{nil, {"status"}, {"plugin"}, {"plugin", "new"}} {
		got, want := help(slices.Concat([]string{"help"}, command)...), help(append(command, "--help")...)
		if got != want {
			t.Errorf("help %q: %q, want %q", command, got, want)
		}
	}
	if got, want := help("plugin", "help", "new"), help("plugin", "new", "--help"); got != want {
		t.Errorf("plugin help new: %q, want %q", got, want)
	}
}

// An error is one printable line, however many lines its parts have.
func TestErrorLine(t *testing.T) {
	err := errors.Join(errors.New("first\n\n  second\x1b[2J"), errors.New("third"))
	if got, want := errorLine(err), "first; second\ufffd[2J; third"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for code, err := range map[int]error{
		exitUsage:  fmt.Errorf("outer: %w", usageErrorf("inner")),
		exitFailed: &adminError{status: 404},
	} {
		if got := exitCode(err); got != code {
			t.Errorf("exit code of %v: %d, want %d", err, got, code)
		}
	}
	if code := exitCode(fmt.Errorf("outer: %w", &adminError{status: 400})); code != exitUsage {
		t.Errorf("exit code of a value that the relay refuses: %d", code)
	}
}

// The completion finds the arguments in a usage, and skips the values of flags.
func TestArgumentNames(t *testing.T) {
	for use, want := range map[string][]string{
		"status":                                 nil,
		"tail <group>... | tail --plugin <name>": {"group..."},
		"publish --group <name> [--type <type>] --data <JSON|->":       nil,
		"deploy <name> <file.wasm|oci://…>":                            {"name", "file.wasm|oci://…"},
		"new --kind filter|function --language <language> <directory>": {"directory"},
	} {
		if got := argumentNames(use); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", use, got, want)
		}
	}
}
