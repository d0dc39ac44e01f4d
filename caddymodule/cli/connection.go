package cli

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
)

func connectionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "connection <command>", Short: "List or close the clients of a running relay",
		Example: "  caddy edgerelay connection list --user alice\n" +
			"  caddy edgerelay connection close --user alice --reason maintenance",
	}
	requireSubcommand(cmd)
	cmd.AddCommand(connectionListCommand(), connectionCloseCommand())
	return cmd
}

// connectionFilter are the flags that select connections. All that are set must match.
type connectionFilter struct {
	id          uint32
	user, group string
	from        string
}

func (f *connectionFilter) add(cmd *cobra.Command) {
	cmd.Flags().Uint32Var(&f.id, "id", 0, "the connection with this number, as in 'connection list'")
	cmd.Flags().StringVar(&f.user, "user", "", "connections of this user, by id or name")
	cmd.Flags().StringVarP(&f.group, "group", "g", "", "connections that are subscribed to this group")
	cmd.Flags().StringVar(&f.from, "from", "", "connections from this IP address, or a range such as 10.0.0.0/8")
}

func connectionListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List the clients of this node", Args: cobra.NoArgs,
		Long: "Lists the clients of this node: user, address, transport (websocket, event_stream, long_poll or hold), age, groups\n" +
			"and the bytes that are queued for them.",
		Example: "  caddy edgerelay connection list --sort slowest --limit 10\n" +
			"  caddy edgerelay connection list --group job_events-42 --json | jq .total",
	}
	var f connectionFilter
	f.add(cmd)
	address, asJSON, limit := addAddressFlag(cmd), addJSONFlag(cmd), addLimitFlag(cmd, "clients")
	sort := addSortFlag(cmd, "id", "slowest")
	cmd.RunE = runE(func(ctx context.Context, _ []string) error {
		list := connectionPage{Connections: []admin.Connection{}}
		q := f.query()
		q.Set("sort", *sort)
		err := collectPages(ctx, *address, "/edgerelay/connections", q, *limit, func(page *connectionPage) (int, string) {
			list.Total, list.Connections = page.Total, append(list.Connections, page.Connections...)
			if page.Next == 0 {
				return len(page.Connections), ""
			}
			return len(page.Connections), itoa(page.Next)
		})
		switch {
		case err != nil:
			return err
		case *asJSON:
			return printJSON(os.Stdout, list)
		}
		return writeConnections(os.Stdout, &list)
	})
	return cmd
}

// maxGroupsShown is the number of groups in a row.
const maxGroupsShown = 3

func writeConnections(w io.Writer, list *connectionPage) error {
	t := newTable(w, "ID", "USER", "ADDRESS", "TRANSPORT", "OPENED", "LAST READ", "QUEUED", "GROUPS")
	for _, c := range list.Connections {
		groups := strings.Join(c.Groups[:min(len(c.Groups), maxGroupsShown)], " ")
		if rest := len(c.Groups) - maxGroupsShown; rest > 0 {
			groups += fmt.Sprintf(" and %d more", rest)
		}
		address := ""
		if c.Address != (netip.Addr{}) {
			address = c.Address.String()
		}
		t.row(itoa(c.ID), userLabel(c), address, c.Door, ago(c.Opened), ago(c.LastRead), humanize.IBytes(uint64(c.Waiting)),
			groups)
	}
	if err := t.flush(); err != nil {
		return err
	}
	return writeRest(w, list.Total-len(list.Connections))
}

func ago(t time.Time) string { return since(t) + " ago" }

// closedConnections is the JSON of `connection close`.
type closedConnections struct {
	// Closed is the number of closed connections.
	Closed int `json:"closed"`
}

// confirm shows how many connections the filter selects, and asks before they are closed.
func (f *connectionFilter) confirm(ctx context.Context, address string, asJSON bool) error {
	q := f.query()
	q.Set("limit", "1")
	var page connectionPage
	if err := getAdmin(ctx, address, "/edgerelay/connections?"+q.Encode(), &page); err != nil || page.Total == 0 {
		return err
	}
	return confirm(os.Stdin, forPeople(asJSON), fmt.Sprintf("Close %s?", count(page.Total, "connection")), "not closed")
}

// query returns the parameters of a list.
func (f *connectionFilter) query() url.Values {
	q := url.Values{"user": {f.user}, "group": {f.group}, "address": {f.from}}
	if f.id != 0 {
		q.Set("id", itoa(f.id))
	}
	return q
}

func connectionCloseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "close", Short: "Close the connections of a user, group or address", Args: cobra.NoArgs,
		Long: "Closes the connections of this node that match all given filters, at least one. Clients that reconnect do\n" +
			"so with their current login: to keep a user out, end the login first. On a terminal, the command asks first.",
		Example: "  caddy edgerelay connection close --user alice --reason maintenance\n" +
			"  caddy edgerelay connection close --from 10.1.0.0/16 --code 1001",
	}
	var f connectionFilter
	f.add(cmd)
	var ask confirmation
	ask.add(cmd)
	address, asJSON := addAddressFlag(cmd), addJSONFlag(cmd)
	code := cmd.Flags().Int("code", 1008, "close code: 1000, 1001, 1008 or from 3000 to 4999")
	reason := cmd.Flags().String("reason", "closed by an operator", "reason in the close frame, up to 123 bytes")
	cmd.RunE = runE(func(ctx context.Context, _ []string) error {
		if (f == connectionFilter{}) {
			return usageErrorf("no connections selected; set --user, --group, --from or --id")
		}
		if cmd.Flags().Changed("id") && f.id == 0 {
			return usageErrorf("--id: invalid value 0; use a number of 'connection list'")
		}
		if ask.asks() {
			if err := f.confirm(ctx, *address, *asJSON); err != nil {
				return err
			}
		}
		body := map[string]any{
			"user": f.user, "group": f.group, "address": f.from, "code": *code, "reason": *reason, "id": f.id,
		}
		var closed closedConnections
		if err := callJSON(ctx, *address, "/edgerelay/connections/close", body, &closed); err != nil {
			return err
		}
		if *asJSON {
			return printJSON(os.Stdout, closed)
		}
		_, err := fmt.Printf("%s closed\n", count(closed.Closed, "connection"))
		return err
	})
	return cmd
}

// count returns a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return comma(n) + " " + noun + "s"
}

// durationOf returns a number of seconds as a duration.
func durationOf(seconds float64) time.Duration {
	return time.Duration(seconds * float64(time.Second)).Round(time.Millisecond)
}
