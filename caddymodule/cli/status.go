package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/caddymodule/publishing"
)

func statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the state of a running relay",
		Args:  cobra.NoArgs,
		Long: "Shows health, clients, rates, drops and limits on a screen. The exit code is 1 if events cannot reach the\n" +
			"relay, and 3 if the admin API does not respond.",
		Example: "  caddy edgerelay status\n  caddy edgerelay status --json | jq .connections",
	}
	address, asJSON := addAddressFlag(cmd), addJSONFlag(cmd)
	cmd.RunE = runE(func(ctx context.Context, _ []string) error {
		var raw json.RawMessage
		if err := getAdmin(ctx, *address, "/edgerelay/status", &raw); err != nil {
			return err
		}
		var s admin.Status
		if err := json.Unmarshal(raw, &s); err != nil {
			return mismatch("/edgerelay/status", err)
		}
		if s.Status == "" {
			return resolveAdmin(*address).noAdmin("since the response has no status")
		}
		if *asJSON {
			if err := printRaw(raw); err != nil {
				return err
			}
		} else {
			writeStatus(os.Stdout, &s)
		}
		if s.Status != "ok" && s.Drain == nil {
			return fmt.Errorf("channel layer unhealthy: %s", printable(s.ChannelLayer.Detail))
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
	l := &s.ChannelLayer
	line("channel layer", "%s, %s for %s, %d reconnects, %d memberships restored",
		l.Detail, health(l.OK), since(l.Since), l.Reconnects, l.Repairs)
	if s.Drain != nil {
		line("drain", "%s, %d of %d clients evicted, %d still connected; new clients are rejected",
			s.Drain.State, s.Drain.Evicted, s.Drain.Clients, s.Drain.Open)
	}
	limit := "no limit"
	if s.Limits.Connections > 0 {
		limit = "limit " + comma(s.Limits.Connections)
	}
	line("connections", "%s (%s), %s opened, %s %s", comma(s.Connections), limit, comma(s.Totals.Opened),
		comma(s.Groups), english.PluralWord(int(s.Groups), "group", ""))
	if s.Doors["websocket"] < s.Connections {
		line("transports", "%s", transports(s.Doors))
	}
	line("events", "%s/s in, %s/s delivered, %s/s",
		perSecond(s.Rates.Events), perSecond(s.Rates.Deliveries), humanize.IBytes(uint64(s.Rates.Bytes)))
	line("lag", "p50 %s, p99 %s, last 30 s", seconds(s.Lag.P50), seconds(s.Lag.P99))
	line("total", "%s events from the layer, %s from peers, %s deliveries, %s",
		comma(s.Totals.EventsFromLayer), comma(s.Totals.EventsFromPeers), comma(s.Totals.Deliveries),
		humanize.IBytes(s.Totals.Bytes))
	line("compression", "%s", compressionLine(&s.Compression))
	line("dropped", "%s", counts(s.Dropped))
	line("ended", "%s", counts(s.Ended))
	line("losses", "%s", counts(s.Losses))
	if s.LastLoss != nil {
		line("last loss", "%s, %s ago", s.LastLoss.Detail, since(s.LastLoss.At))
	}
	if s.Histories != nil {
		line("history", "%s", historyLine(s.Histories))
		line("resumes", "%s", resumesLine(&s.Resumes))
	}
	if s.Presence != nil {
		line("presence", "%s", presenceLine(s.Presence))
	}
	if s.State != nil {
		line("state", "%s", stateLine(s.State))
	}
	for i := range s.Routes {
		line("route", "%s", routeLine(&s.Routes[i]))
	}
	if s.Peers != nil {
		line("peers", "%d of %d connected", s.Peers.Connected, s.Peers.Known)
	}
	for _, k := range s.Publishing {
		line("key", "%s", keyLine(&k))
	}
	for _, p := range s.Plugins {
		line("plugin", "%s: %s", p.Name, pluginFaults(&p))
	}
	line("process", "%s memory, %s CPU, %d goroutines, limit %s files", humanize.IBytes(s.Process.Memory),
		time.Duration(s.Process.CPUSeconds*float64(time.Second)).Round(10*time.Millisecond), s.Process.Goroutines,
		comma(s.Process.FileLimit))
}

// compressionLine describes the compression of events in a line.
func compressionLine(c *admin.CompressionStatus) string {
	if !c.Enabled && c.Before == 0 {
		return "off"
	}
	text := comma(uint64(c.Clients)) + " clients"
	if !c.Enabled {
		text = "off, " + text
	}
	if c.Before == 0 {
		return text + ", no event yet"
	}
	return fmt.Sprintf("%s, %s written as %s (%.1f %%); deliveries %s", text, humanize.IBytes(c.Before),
		humanize.IBytes(c.After), 100*float64(c.After)/float64(c.Before), counts(c.Deliveries))
}

// routeLine describes the routes of a path in a line.
func routeLine(r *admin.RouteStatus) string {
	text := fmt.Sprintf("%s: %s connections, %s rejected; events %s; messages %s", r.Path, comma(uint64(r.Connections)),
		comma(r.Rejected), counts(r.Events), counts(r.Messages))
	if r.Backend != nil {
		text += "; backend " + counts(r.Backend)
	}
	if len(r.TypesWithoutRule) > 0 {
		text += "; types without a rule: " + counts(r.TypesWithoutRule)
	}
	return text
}

// historyLine describes the histories of groups in a line.
func historyLine(h *admin.HistoryStatus) string {
	text := fmt.Sprintf("%s, %s %s, %s, %s events recorded", strings.ReplaceAll(h.Kind, "_", " "),
		comma(uint64(h.Groups)), english.PluralWord(int(h.Groups), "group", ""), humanize.IBytes(uint64(h.Bytes)), comma(h.Recorded))
	rest := map[string]uint64{"failed": h.Failed, "adopted": h.Adopted, "gaps": h.Gaps, "groups_evicted": h.Evicted}
	if others := counts(rest); others != "none" {
		text += ", " + others
	}
	if h.Trouble != "" {
		text = "UNHEALTHY: " + h.Trouble + "; " + text
	}
	return text
}

// resumesLine describes the subscriptions of clients that get positions in a line.
func resumesLine(r *admin.ResumeStatus) string {
	not := uint64(0)
	for _, count := range r.NotRecovered {
		not += count
	}
	text := fmt.Sprintf("%s clients with positions; %s recovered, %s not", comma(uint64(r.Clients)), comma(r.Recovered), comma(not))
	if not > 0 {
		text += " (" + counts(r.NotRecovered) + ")"
	}
	return text + fmt.Sprintf(", %s latest; %s events replayed, %s waiting",
		comma(r.Latest), comma(r.Events), comma(uint64(r.Waiting)))
}

// keyLine describes a key of edgerelay_publish in a line.
func keyLine(k *publishing.KeyStatus) string {
	used := "not used yet"
	if !k.Used.IsZero() {
		used = "used " + since(k.Used) + " ago"
	}
	return fmt.Sprintf("%s at %s for %s: %s sent, %s deduplicated, %s failed; %s requests rejected, %s", k.Name, k.Path,
		strings.Join(k.Groups, " "), comma(k.Sent), comma(k.Deduplicated), comma(k.Failed), comma(k.Rejected), used)
}

// comma formats a number with commas between thousands.
func comma[N int | uint64](n N) string { return humanize.Comma(int64(n)) }

// seconds formats a lag, which is the upper bound of a histogram bucket. 0 is unknown.
func seconds(s float64) string {
	if s == 0 {
		return "–"
	}
	return "≤ " + time.Duration(s*float64(time.Second)).String()
}

// health formats the state of the channel layer.
func health(ok bool) string {
	if ok {
		return "healthy"
	}
	return "UNHEALTHY"
}

// since formats the time since t.
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

// perSecond formats a rate.
func perSecond(rate float64) string {
	if rate < 10 {
		return fmt.Sprintf("%.1f", rate)
	}
	return humanize.Comma(int64(rate + 0.5))
}

// counts formats counters by reason, without zeros.
func counts(by map[string]uint64) string {
	var list []string
	for _, reason := range slices.Sorted(maps.Keys(by)) {
		if by[reason] > 0 {
			list = append(list, comma(by[reason])+" "+strings.ReplaceAll(reason, "_", " "))
		}
	}
	if list == nil {
		return "none"
	}
	return strings.Join(list, ", ")
}

// pluginFaults returns the faults of an unhealthy plugin in a line.
func pluginFaults(p *admin.UnhealthyPlugin) string {
	var faults []string
	if p.Breaker != "" {
		faults = append(faults, "circuit breaker "+p.Breaker)
	}
	if p.FailureRate > 0 {
		faults = append(faults, fmt.Sprintf("%.0f %% of recent calls failed", 100*p.FailureRate))
	}
	if p.Slow != "" {
		faults = append(faults, "slow: "+p.Slow)
	}
	if p.Refused != "" {
		faults = append(faults, "update rejected: "+p.Refused)
	}
	if p.LastError != "" {
		faults = append(faults, p.LastError)
	}
	return strings.Join(faults, "; ")
}

// transports tells how many clients are connected by each transport.
func transports(open map[string]int) string {
	var list []string
	for _, door := range slices.Sorted(maps.Keys(open)) {
		if open[door] > 0 {
			list = append(list, comma(open[door])+" "+strings.ReplaceAll(door, "_", " "))
		}
	}
	return strings.Join(list, ", ")
}
