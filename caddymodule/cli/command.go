// Package cli adds the command `caddy edgerelay` with a subcommand per file. All except `plugin test`, `plugin new`,
// `plugin dev` and `doctor --config` call the admin API of a running relay.
package cli

import (
	"fmt"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "edgerelay",
		Usage: "<command>",
		Short: "Commands for the realtime relay",
		Long:  "Commands for a running relay. They use Caddy's admin API.",
		CobraFunc: func(cmd *cobra.Command) {
			requireSubcommand(cmd)
			cmd.AddCommand(statusCommand(), healthCommand(), topCommand(), tailCommand(), publishCommand(), presenceCommand(),
				drainCommand(), doctorCommand(), benchCommand(), pluginCommand(), pluginCompileCommand(), versionCommand())
		},
	})
}

// runE converts run to the RunE of a command. An error is printed once, on a line of its own, and makes the exit code
// 1. The usage is not printed, since the arguments were valid.
func runE(run func(args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := run(args)
		if err != nil {
			cmd.SilenceErrors, cmd.SilenceUsage = true, true
			fmt.Fprintln(cmd.ErrOrStderr(), "error:", err)
		}
		return err
	}
}

// requireSubcommand makes a command reject unknown subcommands. By default, cobra prints the help and reports success.
func requireSubcommand(cmd *cobra.Command) {
	cmd.Args = cobra.ArbitraryArgs
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return runE(func([]string) error {
			err := fmt.Errorf("unknown command %q; '%s --help' lists the commands", args[0], cmd.CommandPath())
			if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
				err = fmt.Errorf("unknown command %q; did you mean %s?", args[0], strings.Join(similar, " or "))
			}
			return err
		})(cmd, args)
	}
}
