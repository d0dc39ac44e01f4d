package cli

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
)

// printPluginNodes writes which plugins the nodes run that share the storage.
func printPluginNodes(w io.Writer, list *admin.PluginNodes) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NODE\tSTATE\tAGE\tPLUGIN\tHASH\tFROM\tVERSION\tCANARY\tERROR")
	for _, n := range list.Nodes {
		name := printable(cmp.Or(n.Node, n.ID))
		if n.Here {
			name += "*"
		}
		age := (time.Duration(n.AgeSeconds) * time.Second).String()
		if len(n.Plugins) == 0 {
			fmt.Fprintf(table, "%s\t%s\t%s\t-\t\t\t\t\t\n", name, n.State, age)
		}
		for _, p := range n.Plugins {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%.12s\t%s\t%s\t%s\t%s\n", name, n.State, age, printable(p.Name),
				printable(p.Hash), printable(string(p.From)), nodeVersion(&p), nodeCanary(p.Canary), nodeError(&p))
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, p := range list.Plugins {
		if p.Converged {
			nodes := english.PluralWord(p.Nodes, "node runs", "nodes run")
			fmt.Fprintf(w, "%s: %d live %s the same\n", printable(p.Name), p.Nodes, nodes)
			continue
		}
		for _, why := range p.Why {
			fmt.Fprintf(w, "%s: %s\n", printable(p.Name), printable(why))
		}
	}
	return nil
}

// nodeVersion returns the number of the deployment and the version in the module's manifest, if there are any.
func nodeVersion(p *pluginhost.NodePlugin) string {
	var parts []string
	if p.Version != 0 {
		parts = append(parts, fmt.Sprint(p.Version))
	}
	if p.ModuleVersion != "" {
		parts = append(parts, "("+printable(p.ModuleVersion)+")")
	}
	return cmp.Or(strings.Join(parts, " "), "-")
}

func nodeCanary(c *pluginhost.NodeCanary) string {
	if c == nil {
		return "-"
	}
	return fmt.Sprintf("%.12s %s, %d failed of %d", printable(c.Hash), showShare(c.Share), c.Failures, c.Events)
}

// nodeError returns, in a line, why a plugin runs something else, or its last error.
func nodeError(p *pluginhost.NodePlugin) string {
	text := p.LastError
	switch {
	case p.Refused != "":
		text = "update rejected: " + p.Refused
	case p.Diverged != "":
		text = p.Diverged
	}
	text = printable(strings.Join(strings.Fields(text), " "))
	if len(text) > 160 {
		text = strings.ToValidUTF8(text[:160], "") + "…"
	}
	return text
}
