package cli

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/edgerelay/edgerelay/plugins"
)

// replaySum is the last line of plugin replay --json.
type replaySum struct {
	Events   int             `json:"events"`
	Ticks    int             `json:"ticks"`
	Missed   int             `json:"missed"`
	Skipped  int             `json:"skipped,omitempty"`
	Differ   int             `json:"differ"`
	Engine   plugins.Engine  `json:"engine"`
	Versions []replayVersion `json:"versions"`
}

// replayVersion are the sums of a version. Fuel and Seconds have the median, the 99th percentile and the maximum.
type replayVersion struct {
	Version  string         `json:"version"`
	Verdicts map[string]int `json:"verdicts"`
	Failed   int            `json:"failed"`
	Fuel     replaySpread   `json:"fuel"`
	Seconds  replaySpread   `json:"seconds"`
	Memory   uint64         `json:"memory"`
	Slowest  []slowEvent    `json:"slowest"`
}

type replaySpread struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// finish writes the sums. It returns an error if events differ, or without another version, if events have failed.
func (r *replay) finish() error {
	hidden := r.differ - r.shown
	if len(r.versions) == 1 && r.clients == nil {
		hidden = r.versions[0].failed - r.shown
	}
	if r.asJSON {
		r.writeJSONSum()
	} else {
		if hidden > 0 {
			fmt.Fprintf(r.w, "… and %d more; --show -1 shows all\n", hidden)
		}
		r.writeSum()
	}
	switch {
	case r.differ > 0:
		return fmt.Errorf("%d of %d %s differ", r.differ, r.events, r.things())
	case len(r.versions) == 1 && r.clients == nil && r.versions[0].failed > 0:
		return fmt.Errorf("%d of %d %s failed", r.versions[0].failed, r.events, r.things())
	}
	return nil
}

func (r *replay) writeSum() {
	w := tabwriter.NewWriter(r.w, 0, 0, 2, ' ', 0)
	row := func(name string, value func(v *replayedVersion) string) {
		fmt.Fprint(w, name)
		for _, v := range r.versions {
			fmt.Fprintf(w, "\t%s", value(v))
		}
		fmt.Fprintln(w)
	}
	row(fmt.Sprintf("%d %s", r.events, r.things()), func(v *replayedVersion) string { return v.name })
	for _, verdict := range []string{"pass", "replace", "drop", "allow", "deny", "error"} {
		if slices.ContainsFunc(r.versions, func(v *replayedVersion) bool { return v.verdicts[verdict] > 0 }) {
			row(verdict, func(v *replayedVersion) string { return fmt.Sprint(v.verdicts[verdict]) })
		}
	}
	if r.ticks > 0 {
		row("ticks", func(*replayedVersion) string { return fmt.Sprint(r.ticks) })
	}
	row("failed", func(v *replayedVersion) string { return fmt.Sprint(v.failed) })
	row("fuel p50, p99, max", func(v *replayedVersion) string {
		return fmt.Sprintf("%d, %d, %d", v.fuel.quantile(0.5), v.fuel.quantile(0.99), v.fuel.max)
	})
	row("time p50, p99, max", func(v *replayedVersion) string {
		return fmt.Sprintf("%v, %v, %v", shortTime(v.time.quantile(0.5)), shortTime(v.time.quantile(0.99)),
			shortTime(v.time.max))
	})
	row("memory", func(v *replayedVersion) string { return fmt.Sprintf("%d KiB", v.memory>>10) })
	row("slowest", func(v *replayedVersion) string {
		var list []string
		for _, s := range v.slowest {
			list = append(list, fmt.Sprintf("line %d (%v)", s.Line, shortTime(int64(s.Seconds*1e9))))
		}
		return strings.Join(list, ", ")
	})
	_ = w.Flush()
	switch {
	case r.clients != nil:
		r.writeConversations()
	case len(r.versions) > 1:
		fmt.Fprintf(r.w, "%s\n", english.Plural(r.differ, "event differs", "events differ"))
	}
	warnOfInterpreter(r.w)
	if r.missed > 0 {
		fmt.Fprintf(r.w, "the recording lacks %d events, which arrived too fast\n", r.missed)
	}
}

// shortTime rounds a time in nanoseconds for people.
func shortTime(ns int64) time.Duration { return time.Duration(ns).Round(100 * time.Nanosecond) }

func (r *replay) writeJSONSum() {
	sum := replaySum{
		Events: r.events, Ticks: r.ticks, Missed: r.missed, Skipped: r.skipped, Differ: r.differ,
		Engine: plugins.CurrentEngine(),
	}
	for _, v := range r.versions {
		spread := func(d *distribution, unit float64) replaySpread {
			return replaySpread{
				float64(d.quantile(0.5)) * unit, float64(d.quantile(0.99)) * unit, float64(d.max) * unit,
			}
		}
		sum.Versions = append(sum.Versions, replayVersion{
			v.name, v.verdicts, v.failed, spread(&v.fuel, 1), spread(&v.time, 1e-9), v.memory, v.slowest,
		})
	}
	writeJSONLine(r.w, sum)
}
