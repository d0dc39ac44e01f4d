package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/relay/backplane"
)

func peerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "peer <command>", Short: "Show the nodes of the backplane", Example: "  caddy edgerelay peer list",
	}
	requireSubcommand(cmd)
	list := &cobra.Command{
		Use: "list", Short: "List the nodes of the backplane", Args: cobra.NoArgs,
		Long: "Lists the other nodes: version, state, round-trip time, lag and dropped events. Below a node with several\n" +
			"links, each link has a line. An address that is this node's own has the state self.",
		Example: "  caddy edgerelay peer list\n  caddy edgerelay peer list --json | jq -r '.peers[].state'",
	}
	address, asJSON := addAddressFlag(list), addJSONFlag(list)
	list.RunE = runE(func(ctx context.Context, _ []string) error {
		return printAdmin(ctx, *address, "/edgerelay/peers", *asJSON, writePeers)
	})
	cmd.AddCommand(list)
	return cmd
}

func writePeers(w io.Writer, peers *backplane.Status) error {
	t := newTable(w, "PEER", "NAME", "VERSION", "STATE", "SINCE", "DIALECT", "RTT", "LAG", "GROUPS", "QUEUED", "DROPPED",
		"ERROR")
	row := func(name string, p *backplane.Peer) {
		t.row(name, p.Name, p.Version, string(p.State), p.Since.Format(time.RFC3339), string(p.Dialect),
			fmt.Sprintf("%.1fms", p.RTT*1000), fmt.Sprintf("%.1fs", p.Lag), comma(p.Groups), comma(p.Queued),
			comma(uint64(p.Dropped)), p.Error)
	}
	for _, n := range peers.Peers {
		row(cmp.Or(n.URL, n.Address), &n.Peer)
		for _, p := range n.Links {
			row("  "+cmp.Or(p.URL, p.Address), &p)
		}
	}
	if err := t.flush(); err != nil {
		return err
	}
	count := backplane.CountNodes(peers.Peers)
	_, err := fmt.Fprintf(w, "\n%d of %d nodes connected\n", count.Connected, count.Known)
	return err
}
