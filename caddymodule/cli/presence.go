package cli

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
)

func presenceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "presence <group>",
		Short:   "Show who is in a group",
		Args:    cobra.ExactArgs(1),
		Long:    "Lists the users in a group, on all nodes of the channel layer. The group's route needs presence.",
		Example: "  caddy edgerelay presence chat_lobby\n  caddy edgerelay presence chat_lobby --json | jq .count",
	}
	address, asJSON := addAddressFlag(cmd), addJSONFlag(cmd)
	limit := addLimitFlag(cmd, "users")
	cmd.RunE = runE(func(ctx context.Context, args []string) error {
		q := url.Values{"group": args, "limit": {strconv.Itoa(*limit)}}
		return printAdmin(ctx, *address, "/edgerelay/presence?"+q.Encode(), *asJSON, writePresence)
	})
	return cmd
}

// writePresence writes a list of users as text.
func writePresence(w io.Writer, p *admin.GroupPresence) error {
	fmt.Fprintf(w, "%s: %s users\n", printable(p.Group), comma(p.Count))
	for _, u := range p.Users {
		fmt.Fprintf(w, "  %s", printable(string(u.User)))
		if info := string(u.Info); info != "{}" {
			fmt.Fprintf(w, "  %s", printable(info))
		}
		fmt.Fprintln(w)
	}
	return writeRest(w, p.Count-len(p.Users))
}

// presenceLine describes the presence of routes in a line.
func presenceLine(p *admin.PresenceStatus) string {
	text := fmt.Sprintf("%s users in %s groups on this node, %s joins and %s leaves announced",
		comma(p.Members), comma(p.Groups), comma(p.Joins), comma(p.Leaves))
	if p.Trouble != "" {
		text = "UNHEALTHY: " + p.Trouble + "; " + text
	}
	if len(p.Webhooks) > 0 {
		text += fmt.Sprintf("; webhooks: %s events sent, %s requests failed, %s events dropped",
			comma(p.WebhookSent), comma(p.WebhookFailed), comma(p.WebhookDropped))
	}
	for _, h := range p.Webhooks {
		if h.Trouble != "" {
			text += fmt.Sprintf("; UNHEALTHY for %s: %s: %s", since(h.Since), h.URL, h.Trouble)
		}
	}
	return text
}
