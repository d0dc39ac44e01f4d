package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// product is the name of the command, and of the binary in releases and packages.
const product = "edgerelay"

// isStandalone reports whether the program is named after the product. Such a program has the relay's commands beside
// Caddy's: `edgerelay status` is `caddy edgerelay status`, and `edgerelay run` is `caddy run`.
func isStandalone(args []string) bool {
	return len(args) > 0 && strings.TrimSuffix(filepath.Base(args[0]), ".exe") == product
}

// standAlone makes cmd, the command edgerelay, receive the whole command line. It then moves the relay's commands to
// the root, and lets the root run the command line.
//
// Caddy gives a module no access to its root command before it parses the command line, but a command that runs has
// it. So this works in every Caddy with the module, whoever built it, and finds the commands of all modules.
func standAlone(cmd *cobra.Command) {
	args := os.Args
	os.Args = slices.Insert(slices.Clone(args), 1, product)
	cmd.DisableFlagParsing = true
	cmd.SilenceErrors, cmd.SilenceUsage = true, true // the root's run has printed them
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		os.Args = args
		root := cmd.Root()
		root.RemoveCommand(cmd)
		mergeCommands(root)
		root.SetArgs(args[1:])
		return root.Execute()
	}
}

const (
	relayGroup  = "relay"
	serverGroup = "server"
)

// mergeCommands adds the relay's commands to a root with Caddy's. A name that the root has already stays the root's,
// except version. `edgerelay edgerelay status` works as well, for scripts that run both names.
func mergeCommands(root *cobra.Command) {
	keepCaddysTexts(root)
	root.AddGroup(&cobra.Group{ID: relayGroup, Title: "Commands of the relay:"},
		&cobra.Group{ID: serverGroup, Title: "Commands of Caddy, its server:"})
	nested, relay := &cobra.Command{Use: product + " <command>", Hidden: true}, &cobra.Command{Use: product}
	build(nested)
	build(relay)
	for _, cmd := range relay.Commands() {
		relay.RemoveCommand(cmd)
		if taken := find(root, cmd.Name()); taken != nil && cmd.Name() != "version" {
			continue
		} else if taken != nil {
			root.RemoveCommand(taken)
		}
		cmd.GroupID = relayGroup
		applyTexts(cmd)
		walk(cmd, nameWithoutCaddy)
		root.AddCommand(cmd)
	}
	root.AddCommand(nested)
	root.Use = product
	root.Long = "edgerelay is Caddy with the realtime relay. 'edgerelay run' runs the server. The relay's commands use the\n" +
		"admin API of a running server."
	root.Example = "  edgerelay run --config /etc/edgerelay/Caddyfile\n  edgerelay status\n  edgerelay tail job_events-42"
	root.Version = relay.Version
	root.SetVersionTemplate(relay.VersionTemplate())
	requireSubcommand(root)
	applyTexts(root)
}

// find returns the command of root with a name, or nil.
func find(root *cobra.Command, name string) *cobra.Command {
	i := slices.IndexFunc(root.Commands(), func(cmd *cobra.Command) bool { return cmd.Name() == name })
	if i < 0 {
		return nil
	}
	return root.Commands()[i]
}

// keepCaddysTexts keeps help and errors of Caddy's commands as they are when the root changes.
func keepCaddysTexts(root *cobra.Command) {
	help, usage, flagError := root.HelpTemplate(), root.UsageTemplate(), root.FlagErrorFunc()
	for _, cmd := range root.Commands() {
		cmd.SetHelpTemplate(help)
		cmd.SetUsageTemplate(usage)
		cmd.SetFlagErrorFunc(flagError)
		switch cmd.Name() {
		case "help":
			// cobra's own reports success for an unknown command.
			cmd.RunE = func(_ *cobra.Command, args []string) error { return showHelp(root, args) }
		case "completion":
		case "manpage":
			write := cmd.RunE
			cmd.RunE = func(cmd *cobra.Command, args []string) error {
				walk(root, escapeForManPages)
				return write(cmd, args)
			}
		default:
			cmd.GroupID = serverGroup
		}
	}
}

// escapeForManPages escapes the texts of a command, which cobra's man pages take for Markdown: <name> would be a tag.
func escapeForManPages(cmd *cobra.Command) {
	escape := strings.NewReplacer("<", `\<`, "*", `\*`, "_", `\_`)
	cmd.Use = escape.Replace(cmd.Use)
	lines := strings.Split(cmd.Long, "\n")
	for i, line := range lines {
		if !strings.HasPrefix(line, "\t") && !strings.HasPrefix(line, "    ") { // code stays
			lines[i] = escape.Replace(line)
		}
	}
	cmd.Long = strings.Join(lines, "\n")
	cmd.Flags().VisitAll(func(f *pflag.Flag) { f.Usage = escape.Replace(f.Usage) })
}

// nameWithoutCaddy replaces `caddy edgerelay` in the texts of a command.
func nameWithoutCaddy(cmd *cobra.Command) {
	for _, text := range []*string{&cmd.Short, &cmd.Long, &cmd.Example} {
		*text = withoutCaddy(*text)
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) { f.Usage = withoutCaddy(f.Usage) })
}

// withoutCaddy returns a text for users of a binary named edgerelay.
func withoutCaddy(text string) string {
	return strings.ReplaceAll(text, "caddy "+product+" ", product+" ")
}
