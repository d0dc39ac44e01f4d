package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/spf13/cobra"
)

func statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "status", Short: "Show the state of a running relay", Args: cobra.NoArgs,
		Long: "Shows on one screen whether events reach the relay, how many clients it has, what it does and what it has dropped.\n" +
			"The exit code is 1 if the relay cannot be reached or no events can reach it.",
		Example: "  caddy edgerelay status\n  caddy edgerelay status --json | jq .connections",
	}
	address, asJSON := adminAddress(cmd), cmd.Flags().Bool("json", false, "the answer of the admin API as it is")
	cmd.RunE = running(func([]string) error {
		var raw json.RawMessage
		if err := getAdmin(*address, "/edgerelay/status", &raw); err != nil {
			return err
		}
		var s admin.Status
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
		if *asJSON {
			fmt.Fprintln(os.Stdout, strings.TrimSpace(string(raw)))
		} else {
			writeStatus(os.Stdout, &s)
		}
		if s.Status != "ok" && s.Drain == nil {
			return fmt.Errorf("events cannot reach the relay: %s", printable(s.ChannelLayer.Detail))
		}
		return nil
	})
	return cmd
}

// writeStatus writes a status as text.
func writeStatus(w io.Writer, s *admin.Status) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-13s %s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	line("edgerelay", "%s, version %s, up %s", s.Status, s.Version, since(s.Started))
	line("channel layer", "%s, %s for %s, %d reconnects, %d memberships put back", s.ChannelLayer.Detail, well(s.ChannelLayer.OK), since(s.ChannelLayer.Since),
		s.ChannelLayer.Reconnects, s.ChannelLayer.Repairs)
	if s.Drain != nil {
		line("drain", "%s, %d of %d clients told, %d still here; new ones are refused", s.Drain.State, s.Drain.Evicted, s.Drain.Clients, s.Drain.Open)
	}
	most := "no limit"
	if s.Limits.Connections > 0 {
		most = "at most " + humanize.Comma(int64(s.Limits.Connections))
	}
	line("connections", "%s (%s), %s opened, %s groups", humanize.Comma(int64(s.Connections)), most, humanize.Comma(int64(s.Totals.Opened)), humanize.Comma(int64(s.Groups)))
	line("events", "%s/s in, %s/s delivered, %s/s", perSecond(s.Rates.Events), perSecond(s.Rates.Deliveries), humanize.IBytes(uint64(s.Rates.Bytes)))
	line("lag", "%s for half, %s for 99 of 100 deliveries of the last half minute", seconds(s.Lag.P50), seconds(s.Lag.P99))
	line("in all", "%s from the layer, %s from peers, %s delivered, %s", humanize.Comma(int64(s.Totals.EventsFromLayer)), humanize.Comma(int64(s.Totals.EventsFromPeers)),
		humanize.Comma(int64(s.Totals.Deliveries)), humanize.IBytes(s.Totals.Bytes))
	line("dropped", "%s", counts(s.Dropped))
	line("ended", "%s", counts(s.Ended))
	line("losses", "%s", counts(s.Losses))
	if s.LastLoss != nil {
		line("last loss", "%s, %s ago", s.LastLoss.Detail, since(s.LastLoss.At))
	}
	if s.Peers != nil {
		line("peers", "%d of %d connected", s.Peers.Connected, s.Peers.Known)
	}
	for _, p := range s.Plugins {
		line("plugin", "%s: %s", p.Name, strings.TrimSpace(p.Breaker+" "+p.LastError+" "+p.Refused))
	}
	line("process", "%s memory, %s CPU, %d goroutines, at most %s files", humanize.IBytes(s.Process.Memory),
		time.Duration(s.Process.CPUSeconds*float64(time.Second)).Round(10*time.Millisecond), s.Process.Goroutines, humanize.Comma(int64(s.Process.FileLimit)))
}

// seconds writes the upper bound of a lag.
func seconds(s float64) string {
	if s == 0 {
		return "–"
	}
	return "≤ " + time.Duration(s*float64(time.Second)).String()
}

func well(ok bool) string {
	if ok {
		return "well"
	}
	return "NOT WELL"
}

func since(t time.Time) string {
	d := time.Since(t)
	switch {
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

func perSecond(rate float64) string {
	if rate < 10 {
		return fmt.Sprintf("%.1f", rate)
	}
	return humanize.Comma(int64(rate + 0.5))
}

// counts writes counters by reason; those that are 0 are left out.
func counts(by map[string]uint64) string {
	var list []string
	for _, reason := range slices.Sorted(maps.Keys(by)) {
		if by[reason] > 0 {
			list = append(list, fmt.Sprintf("%s %s", humanize.Comma(int64(by[reason])), strings.ReplaceAll(reason, "_", " ")))
		}
	}
	if list == nil {
		return "nothing"
	}
	return strings.Join(list, ", ")
}
