package cli

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/plugins"
)

const pluginCompileName = "compile-plugin"

// pluginCompileCommand returns the command by which the server starts itself to compile a plugin's module.
func pluginCompileCommand() *cobra.Command {
	pluginhost.EnableCompiler("edgerelay", pluginCompileName)
	return &cobra.Command{
		Use:                pluginCompileName,
		Short:              "Compile a plugin for the running server, which starts this command itself",
		Hidden:             true,
		DisableFlagParsing: true,
		Run:                func(_ *cobra.Command, args []string) { os.Exit(plugins.RunCompiler(args)) },
	}
}
