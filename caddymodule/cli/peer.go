package cli

import (
	"fmt"
	"io"

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
		Long:    "Lists the peers of this node: version, state, round-trip time, lag and dropped events of each link.",
		Example: "  caddy edgerelay peer list\n  caddy edgerelay peer list --json | jq -r '.peers[].state'",
	}
	address, asJSON := addAddressFlag(list), addJSONFlag(list)
	list.RunE = runE(func([]string) error {
		return printAdmin(*address, "/edgerelay/peers", *asJSON, writePeers)
	})
	cmd.AddCommand(list)
	return cmd
}

func writePeers(w io.Writer, peers *backplane.Status) error {
	t := newTable(w, "PEER", "NAME", "VERSION", "STATE", "DIALECT", "RTT", "LAG", "GROUPS", "QUEUED", "DROPPED", "ERROR")
	for _, p := range peers.Peers {
		t.row(p.URL+p.Address, p.Name, p.Version, string(p.State), string(p.Dialect), fmt.Sprintf("%.1fms", p.RTT*1000),
			fmt.Sprintf("%.1fs", p.Lag), comma(p.Groups), comma(p.Queued), comma(uint64(p.Dropped)), p.Error)
	}
	return t.flush()
}
