// Package cli adds the command `caddy edgerelay` with a subcommand per file. All except `plugin test`, `plugin new`,
// `plugin dev` and `doctor --config` call the admin API of a running relay.
//
// All commands follow the rules of docs/admin.md: data on stdout, everything else on stderr, one line for an error,
// exit codes by kind of error, and --json where a command prints data. [finish] applies what can be applied to the
// whole tree; a test checks the rest.
package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	if isStandalone(os.Args) {
		caddy.CustomBinaryName = product // in Caddy's own helps
	}
	caddycmd.RegisterCommand(caddycmd.Command{
		Name: product, Usage: "<command>", Short: "Commands for the realtime relay", CobraFunc: func(cmd *cobra.Command) {
			if isStandalone(os.Args) {
				standAlone(cmd)
				return
			}
			build(cmd)
		},
	})
}

// build adds all subcommands to the command edgerelay.
func build(cmd *cobra.Command) {
	cmd.Long = "Commands for a running relay. They use Caddy's admin API."
	cmd.Example = "  caddy edgerelay status\n  caddy edgerelay tail job_events-42"
	cmd.Version = versionText()
	cmd.SetVersionTemplate("{{.Version}}")
	requireSubcommand(cmd)
	cmd.AddCommand(statusCommand(), healthCommand(), topCommand(), tailCommand(), publishCommand(), presenceCommand(),
		groupCommand(), connectionCommand(), peerCommand(), drainCommand(), doctorCommand(), supportBundleCommand(),
		benchCommand(), pluginCommand(), pluginCompileCommand(), demoCommand(),
		versionCommand())
	finish(cmd)
}

// requireSubcommand makes a command reject unknown subcommands. By default, cobra prints the help and reports success.
func requireSubcommand(cmd *cobra.Command) {
	cmd.Args = cobra.ArbitraryArgs
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		if args[0] == "help" {
			return showHelp(cmd, args[1:])
		}
		return unknownCommand(cmd, args[0])
	}
}

// showHelp shows the help of a command below cmd, as `caddy help` does for Caddy's commands.
func showHelp(cmd *cobra.Command, path []string) error {
	found, rest, err := cmd.Find(path)
	if err != nil || len(rest) > 0 {
		return unknownCommand(found, rest[0])
	}
	found.InitDefaultHelpFlag()
	found.InitDefaultVersionFlag()
	return found.Help()
}

// unknownCommand reports a command that cmd does not have.
func unknownCommand(cmd *cobra.Command, name string) error {
	remedy := fmt.Sprintf("'%s --help' lists the commands", cmd.CommandPath())
	if similar := cmd.SuggestionsFor(name); len(similar) > 0 {
		remedy = "did you mean " + strings.Join(similar, " or ") + "?"
	}
	return fail(cmd, usageErrorf("unknown command %q; %s", name, remedy))
}

// helpTemplate is cobra's own, without Caddy's link to documentation that does not know these commands.
const helpTemplate = `{{with (or .Long .Short)}}{{. | trimTrailingWhitespaces}}

{{end}}{{if or .Runnable .HasSubCommands}}{{.UsageString}}{{end}}
Documentation: https://github.com/edgerelay/edgerelay/blob/main/docs/admin.md#commands
`

// finish applies the rules for usage errors, help and completion to a whole tree of commands.
func finish(root *cobra.Command) {
	applyTexts(root)
	walk(root, func(cmd *cobra.Command) {
		if cmd.Hidden || cmd.HasSubCommands() {
			return
		}
		checkArguments(cmd)
		addCompletions(cmd)
	})
}

// applyTexts sets help and errors of a command and the commands below it.
func applyTexts(cmd *cobra.Command) {
	cmd.SetHelpTemplate(helpTemplate)
	cmd.SetUsageTemplate(strings.ReplaceAll(cmd.UsageTemplate(), ".FlagUsages", ".FlagUsagesWrapped 120"))
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fail(cmd, describeFlagError(cmd, err))
	})
}

// walk calls visit for a command and all commands below it.
func walk(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, sub := range cmd.Commands() {
		walk(sub, visit)
	}
}
