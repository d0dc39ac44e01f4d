package cli

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
)

func groupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "group <command>", Short: "Show the groups of a running relay, and announce missed events",
		Example: "  caddy edgerelay group list --sort rate\n  caddy edgerelay group history job_events-42",
	}
	requireSubcommand(cmd)
	cmd.AddCommand(groupListCommand(), groupHistoryCommand(), groupReplayCommand())
	return cmd
}

func groupListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List the groups with clients on this node", Args: cobra.NoArgs,
		Long: "Lists the groups with clients on this node, with the events a second since the last look, and the number\n" +
			"of subscribers and tails.",
		Example: "  caddy edgerelay group list --prefix job_events- --sort rate\n" +
			"  caddy edgerelay group list --json | jq -r '.groups[].group'",
	}
	address, asJSON, limit := addAddressFlag(cmd), addJSONFlag(cmd), addLimitFlag(cmd, "groups")
	sort := addSortFlag(cmd, "name", "rate", "subscribers")
	prefix := cmd.Flags().String("prefix", "", "only groups whose name begins with this text")
	cmd.RunE = runE(func(ctx context.Context, _ []string) error {
		list := groupPage{Groups: []admin.Group{}}
		q := url.Values{"prefix": {*prefix}, "sort": {*sort}}
		err := collectPages(ctx, *address, "/edgerelay/groups", q, *limit, func(page *groupPage) (int, string) {
			list.Total, list.Groups = page.Total, append(list.Groups, page.Groups...)
			return len(page.Groups), page.Next
		})
		switch {
		case err != nil:
			return err
		case *asJSON:
			return printJSON(os.Stdout, list)
		}
		return writeGroups(os.Stdout, &list)
	})
	return cmd
}

func writeGroups(w io.Writer, list *groupPage) error {
	t := newTable(w, "GROUP", "SUBSCRIBERS", "TAILS", "EVENTS/S")
	for _, g := range list.Groups {
		t.row(g.Group, comma(g.Subscribers), comma(g.Tails), perSecond(g.Rate))
	}
	if err := t.flush(); err != nil {
		return err
	}
	return writeRest(w, list.Total-len(list.Groups))
}

// writeRest tells how many entries a list leaves out.
func writeRest(w io.Writer, rest int) error {
	if rest <= 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "and %s more; see --limit\n", comma(rest))
	return err
}

func groupHistoryCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "history <group>", Short: "Show depth, age and bounds of a group's history", Args: cobra.ExactArgs(1),
		Long: "Shows how many events the history of a group holds, their size and age, the bounds, and how many clients\n" +
			"have resumed. The events themselves: caddy edgerelay tail --since 'latest 20' <group>",
		Example: "  caddy edgerelay group history job_events-42",
	}
	address, asJSON := addAddressFlag(cmd), addJSONFlag(cmd)
	cmd.RunE = runE(func(ctx context.Context, args []string) error {
		path := "/edgerelay/groups/" + url.PathEscape(args[0]) + "/history"
		return printAdmin(ctx, *address, path, *asJSON, writeHistory)
	})
	return cmd
}

func writeHistory(w io.Writer, h *admin.GroupHistory) error {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-8s %s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	line("events", "%s, %s, %s gaps", comma(uint64(h.Events)), humanize.IBytes(uint64(h.Bytes)), comma(h.Gaps))
	if !h.Oldest.IsZero() {
		line("age", "%s to %s", since(h.Oldest), since(h.Newest))
	}
	line("bounds", "%s events, %s, %s", comma(h.Limits.Count), humanize.IBytes(uint64(h.Limits.Bytes)),
		durationOf(h.Limits.Age))
	if r := h.Resumes; r != nil {
		line("resumes", "%s recovered, %s not, %s latest; %s events replayed", comma(r.Recovered), comma(r.NotRecovered),
			comma(r.Latest), comma(r.Events))
	}
	return nil
}
