package cli

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/caddymodule/node"
)

func topCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch a running relay",
		Args:  cobra.NoArgs,
		Example: "  caddy edgerelay top\n  caddy edgerelay top --once | less\n" +
			"  caddy edgerelay top --json | jq '.top_groups[0]'",
		Long: "Shows status, top groups, slowest clients, peers and plugins, and refreshes the screen until Ctrl-C.\n" +
			"With --once or --json, or if the output is not a terminal, the command prints once.",
	}
	address := addAddressFlag(cmd)
	asJSON := addJSONFlag(cmd)
	once := cmd.Flags().Bool("once", false, "print once, after a second of measuring")
	every := cmd.Flags().Duration("every", 2*time.Second, "time between two refreshes, at least 1s")
	cmd.RunE = runE(func(ctx context.Context, _ []string) error {
		if *every < time.Second {
			return usageErrorf("--every: invalid value %q; use at least 1s", *every)
		}
		ctx, stop := untilSignal(ctx)
		defer stop()
		return watchTop(ctx, *address, *once, *asJSON, *every)
	})
	return cmd
}

// unlimitedWidth is the width of an output that is no terminal.
const unlimitedWidth = math.MaxInt

// watchTop shows overviews until ctx ends, or prints once.
func watchTop(ctx context.Context, address string, once, asJSON bool, every time.Duration) error {
	screen := int(os.Stdout.Fd())
	if os.Getenv("TERM") == "dumb" || !term.IsTerminal(screen) {
		once = true
	}
	// Rates of groups start with the first request; the next request has rates.
	var first admin.Overview
	if err := getAdmin(ctx, address, "/edgerelay/overview", &first); err != nil {
		return err
	}
	wait := node.SampleInterval
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		if asJSON {
			return printAdmin[admin.Overview](ctx, address, "/edgerelay/overview", true, nil)
		}
		var o admin.Overview
		if err := getAdmin(ctx, address, "/edgerelay/overview", &o); err != nil {
			if ctx.Err() != nil && !once {
				return nil // as between two requests
			}
			return err
		}
		var view bytes.Buffer
		if once {
			writeTop(&view, &o, unlimitedWidth)
			_, err := view.WriteTo(os.Stdout)
			return err
		}
		width, height, err := term.GetSize(screen)
		if err != nil {
			width, height = 80, 24
		}
		writeTop(&view, &o, width)
		draw(os.Stdout, view.String(), width, height)
		wait = every
	}
}

// draw fills a terminal with a text. It overwrites lines instead of clearing the screen, which would flicker.
func draw(w io.Writer, text string, width, height int) {
	var out strings.Builder
	out.WriteString("\x1b[H")
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i, line := range lines[:min(len(lines), max(height-1, 1))] {
		if i > 0 {
			out.WriteString("\r\n")
		}
		if cut := []rune(line); len(cut) > width {
			line = string(cut[:width])
		}
		out.WriteString(line + "\x1b[K")
	}
	out.WriteString("\r\n\x1b[J")
	_, _ = io.WriteString(w, out.String())
}

// writeTop writes an overview as text for a screen with width columns.
func writeTop(w io.Writer, o *admin.Overview, width int) {
	writeStatus(w, &o.Status)
	events, connections := make([]float64, len(o.History)), make([]float64, len(o.History))
	for i, s := range o.History {
		events[i], connections[i] = s.Events, float64(s.Connections)
	}
	fmt.Fprintf(w, "\n%-13s %s\n", "events/s", sparkline(events, 60))
	fmt.Fprintf(w, "%-13s %s\n", "connections", sparkline(connections, 60))
	row := func(format string, args ...any) {
		fmt.Fprintln(w, strings.TrimRight(printable(fmt.Sprintf(format, args...)), " "))
	}

	writeTopGroups(w, o, width)
	if len(o.SlowestConnections) > 0 {
		fmt.Fprintf(w, "\n%-10s %-24s %-24s %12s\n", "SLOWEST", "USER", "ADDRESS", "QUEUED")
		for _, c := range o.SlowestConnections {
			row("%-10d %-24.24s %-24s %12s", c.ID, userLabel(c), c.Address, humanize.IBytes(uint64(c.Waiting)))
		}
	}
	if o.Backplane != nil {
		fmt.Fprintf(w, "\n%-40s %-12s %-10s %8s %8s %8s\n", "PEERS", "STATE", "DIALECT", "RTT", "LAG", "DROPPED")
		for _, p := range o.Backplane.Peers {
			row("%-40.40s %-12s %-10s %6.1fms %7.1fs %8d %s",
				cmp.Or(p.URL, p.Address), p.State, p.Dialect, p.RTT*1000, p.Lag, p.Dropped, p.Error)
		}
	}
	if len(o.PluginList) > 0 {
		fmt.Fprintf(w, "\n%-24s %-17s %10s %10s %10s %10s %8s %8s %8s\n",
			"PLUGINS", "STATE", "CALLS", "PASS", "DROP", "REPLACE", "FAILED", "QUEUED", "OLDEST")
		for _, p := range o.PluginList {
			row("%-24s %-17s %10d %10d %10d %10d %8d %8d %7.1fs %s", p.Name, pluginState(&p),
				p.Calls, p.Passed, p.Dropped, p.Replaced, pluginFailures(&p), p.Queued, p.OldestSeconds, p.LastError)
		}
	}
}

// Rows of groups: the columns of every group, and those of its history. A narrow screen would cut off the history, so
// its rows leave out the tails and cut long names.
const (
	groupRow         = "%-48s %10s %12s %6s"
	historyRow       = " %10s %10s %8s %10s %6s"
	groupRowNarrow   = "%-28.28s %8s %7s%.0s"
	historyRowNarrow = " %7s %8s %5s %5s %3s"
	groupRowsWidth   = 128
)

// writeTopGroups writes the groups with most events. Histories have columns if any of the groups has one.
func writeTopGroups(w io.Writer, o *admin.Overview, width int) {
	row := func(text string) {
		fmt.Fprintln(w, strings.TrimRight(printable(text), " "))
	}
	groups, histories := groupRow, historyRow
	head := fmt.Sprintf(groups, "TOP GROUPS", "EVENTS/S", "SUBSCRIBERS", "TAILS")
	if o.Histories != nil {
		headings := []any{"HISTORY", "SIZE", "AGE", "RECOVERED", "NOT"}
		if width < groupRowsWidth {
			groups, histories = groupRowNarrow, historyRowNarrow
			head = fmt.Sprintf(groups, "TOP GROUPS", "EVENTS/S", "CLIENTS", "")
			headings[3] = "RECOV"
		}
		head += fmt.Sprintf(histories, headings...)
	}
	fmt.Fprintln(w)
	row(head)
	for _, g := range o.TopGroups {
		text := fmt.Sprintf(groups, g.Group, perSecond(g.Rate), comma(g.Subscribers), comma(g.Tails))
		if g.History != nil {
			text += fmt.Sprintf(histories, historyCells(g.History)...)
		}
		row(text)
	}
}

// historyCells returns the columns of a group's history.
func historyCells(h *admin.GroupHistory) []any {
	age := "–"
	if !h.Oldest.IsZero() {
		age = since(h.Oldest)
	}
	var r admin.GroupResumes
	if h.Resumes != nil {
		r = *h.Resumes
	}
	return []any{
		comma(uint64(h.Events)), humanize.IBytes(uint64(h.Bytes)), age, comma(r.Recovered), comma(r.NotRecovered),
	}
}

// userLabel returns the user's name, else the id.
func userLabel(c admin.Connection) string {
	switch {
	case c.Name != "":
		return c.Name
	case c.User != "":
		return c.User
	}
	return "-"
}

// sparkline draws the last values, the greatest as a full block, and names the greatest.
func sparkline(values []float64, width int) string {
	values = values[max(0, len(values)-width):]
	most := 0.0
	for _, v := range values {
		most = max(most, v)
	}
	line := make([]rune, len(values))
	for i, v := range values {
		line[i] = '▁'
		if most > 0 {
			line[i] = []rune("▁▂▃▄▅▆▇█")[int(v/most*7.999)]
		}
	}
	return fmt.Sprintf("%s  max %s", string(line), perSecond(most))
}
