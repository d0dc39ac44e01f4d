package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/plugins"
)

func pluginCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "plugin <command>", Short: "Manage the plugins of a running relay, and develop plugins",
		Example: "  caddy edgerelay plugin list\n  caddy edgerelay plugin deploy redact redact.wasm",
	}
	requireSubcommand(cmd)
	cmd.AddCommand(pluginListCommand(), pluginDeployCommand(), pluginRollbackCommand(), pluginUndeployCommand(),
		pluginCanaryCommand(), pluginPromoteCommand(), pluginHistoryCommand(), pluginLogsCommand(),
		pluginDifferencesCommand(), pluginInspectCommand(), pluginEmbedManifestCommand(), pluginTestCommand(),
		pluginReplayCommand(), pluginRecordCommand(), pluginNewCommand(), pluginDevCommand(), pluginPushCommand(), pluginKeygenCommand(),
		pluginSignCommand(), pluginVerifyCommand())
	return cmd
}

// adminCommand returns a command that calls the admin API. args is the number of arguments.
func adminCommand(
	use, short, long string, args int, run func(ctx context.Context, address string, args []string) error,
) *cobra.Command {
	var address *string
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Args: cobra.ExactArgs(args),
	}
	address = addAddressFlag(cmd)
	cmd.RunE = runE(func(ctx context.Context, args []string) error { return run(ctx, *address, args) })
	return cmd
}

func pluginListCommand() *cobra.Command {
	const long = "Lists the plugins in the order of the pipeline. With --nodes, it lists which plugins the nodes run that share\n" +
		"Caddy's storage: their versions, canaries and last errors, and whether all nodes run the same."
	nodes, asJSON := false, false
	cmd := adminCommand("list", "List the plugins", long, 0, func(ctx context.Context, address string, _ []string) error {
		if nodes {
			return printAdmin(ctx, address, "/edgerelay/plugin-nodes", asJSON, printPluginNodes)
		}
		return printAdminList(ctx, address, "/edgerelay/plugins", "plugins", asJSON, printPlugins)
	})
	cmd.Example = "  caddy edgerelay plugin list\n  caddy edgerelay plugin list --nodes\n" +
		"  caddy edgerelay plugin list --json | jq -r '.plugins[].name'"
	cmd.Flags().BoolVar(&nodes, "nodes", false, "list what each node of the site runs")
	cmd.Flags().BoolVar(&asJSON, "json", false, jsonUsage)
	return cmd
}

// printPlugins writes plugins as a table.
func printPlugins(out io.Writer, list []pluginhost.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tSTATE\tHASH\tFROM\tVERSION\tCALLS\tPASS\tDROP\tREPLACE\tEMIT\tDENY\tFAILED\tFUEL/CALL\t"+
		"QUEUED\tOLDEST\tSLOW\tREF\tERROR")
	for _, p := range list {
		fmt.Fprintf(w, "%s\t%s\t%.12s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%.1fs\t%d\t%s\t%s\n",
			p.Name, pluginState(&p), p.Hash, p.From, pluginVersion(&p), p.Calls, p.Passed, p.Dropped, p.Replaced,
			p.Emitted, p.Denied, pluginFailures(&p), p.Fuel/max(p.Calls, 1), p.Queued, p.OldestSeconds, p.DroppedSlow,
			cmp.Or(printable(p.Ref), "-"), pluginError(&p))
	}
	return w.Flush()
}

// pluginVersion returns the number of the deployment and the version in the module's manifest, if there are any.
func pluginVersion(p *pluginhost.Status) string {
	var parts []string
	if p.Version != 0 {
		parts = append(parts, fmt.Sprint(p.Version))
	}
	if p.ModuleVersion != "" {
		parts = append(parts, "("+p.ModuleVersion+")")
	}
	return cmp.Or(strings.Join(parts, " "), "-")
}

// pluginState returns the state in a word.
func pluginState(p *pluginhost.Status) string {
	switch {
	case p.Breaker == "open":
		return "breaker-open"
	case p.Breaker == "half-open":
		return "breaker-half-open"
	case p.Refused != "":
		return "update-rejected"
	case p.Slow(time.Now()) != "":
		return "slow"
	case p.Canary != nil && p.Canary.Phase == pluginhost.CanaryRunning:
		return "canary-" + showShare(p.Canary.Share)
	case p.Engine == plugins.EngineInterpreter:
		return "interpreted"
	case p.Shadow:
		return "shadow"
	}
	return "active"
}

// pluginError returns, in a line, the reason for a rejected update or the error of the last failed call.
func pluginError(p *pluginhost.Status) string {
	text := p.LastError
	if p.Refused != "" {
		text = "update rejected: " + p.Refused
	}
	text = printable(strings.Join(strings.Fields(text), " ")) // an error may have several lines
	if len(text) > 160 {
		text = strings.ToValidUTF8(text[:160], "") + "…"
	}
	return text
}

// pluginFailures sums the failed calls of all kinds.
func pluginFailures(p *pluginhost.Status) (n uint64) {
	for _, of := range p.Failures {
		n += of
	}
	return n
}

func pluginLogsCommand() *cobra.Command {
	const short = "Show recent log lines of a plugin"
	asJSON := false
	cmd := adminCommand("logs <name>", short, "", 1, func(ctx context.Context, address string, args []string) error {
		return printAdminList(ctx, address, pluginPath(args[0], "/logs"), "lines", asJSON, printLogs)
	})
	cmd.Example = "  caddy edgerelay plugin logs redact"
	cmd.Flags().BoolVar(&asJSON, "json", false, jsonUsage)
	return cmd
}

// printLogs writes log lines as text. A plugin's text may have several lines, and none moves the terminal's cursor.
func printLogs(w io.Writer, lines []plugins.LogLine) error {
	for _, l := range lines {
		at := l.Time.Format("2006-01-02T15:04:05.000Z07:00")
		if _, err := fmt.Fprintf(w, "%s %-5s %s\n", at, l.Level, printableLines(l.Text)); err != nil {
			return err
		}
	}
	return nil
}
