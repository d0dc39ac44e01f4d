package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
)

func pluginHistoryCommand() *cobra.Command {
	const short = "List the versions of a plugin"
	const long = "Lists the last ten versions of a plugin's deployment, newest first. An asterisk marks the version\n" +
		"that applies; a node whose file has changed since runs its file."
	var asJSON bool
	cmd := adminCommand("history <name>", short, long, 1, func(ctx context.Context, address string, args []string) error {
		return printAdminList(ctx, address, pluginPath(args[0], "/history"), "versions", asJSON, printHistory)
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, jsonUsage)
	cmd.Example = "  caddy edgerelay plugin history redact"
	return cmd
}

// printHistory writes the versions of a plugin as a table.
func printHistory(out io.Writer, list []pluginhost.HistoryEntry) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "VERSION\tHASH\tWHEN\tWHO\tWHAT\tMODULE\tWHY\tREF")
	for _, e := range list {
		version, when := fmt.Sprint(e.Version), "-"
		if e.Current {
			version += "*"
		}
		if !e.At.IsZero() {
			when = e.At.Local().Format("2006-01-02 15:04:05")
		}
		what := string(e.Origin)
		if e.Of != 0 {
			what += fmt.Sprintf(" to %d", e.Of)
		}
		if e.Forced {
			what += " (forced)"
		}
		if !e.Available {
			what += " (module not kept)"
		}
		module := strings.TrimSpace(e.Module + " " + e.ModuleVersion)
		fmt.Fprintf(w, "%s\t%.12s\t%s\t%s\t%s\t%s\t%s\t%s\n", version, e.Hash, when, printable(cmp.Or(e.By, "-")), what,
			printable(cmp.Or(module, "-")), printable(e.Message), printable(e.Ref))
	}
	return w.Flush()
}
