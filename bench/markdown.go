//go:build linux

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// markdown returns the report of the run.
func (res *results) markdown() string {
	var b strings.Builder
	dirty := ""
	if res.Dirty {
		dirty = " with uncommitted changes"
	}
	m := res.Machine
	fmt.Fprintf(&b, "# Fan-out, %s, commit %s%s\n\n", res.Date, res.Commit, dirty)
	fmt.Fprintf(&b, "Mode `%s`, %d repetitions, medians. %s, %d cores, %.0f GiB, Linux %s, %s, %s; receivers on the "+
		"same cores, loopback.\n",
		res.Mode, res.Reps, m.CPU, m.Cores, m.MemGiB, m.Kernel, m.OS, m.Go)
	var vs []string
	for _, k := range slices.Sorted(maps.Keys(res.Versions)) {
		vs = append(vs, k+" "+res.Versions[k])
	}
	if len(vs) > 0 {
		fmt.Fprintf(&b, "Versions: %s.\n", strings.Join(vs, ", "))
	}
	b.WriteString("CPU-s/M: CPU seconds of all server processes per million deliveries, with the lowest and the " +
		"highest of the repetitions. × bare: that value divided by the bare loop's. °: other processes used more " +
		"than a tenth of the machine. bench/README.md defines each column.\n")
	if len(res.Curves) == 0 { // its rows are the points of the curves
		res.fanOut(&b, kindBurst, "Bursts: published at full speed")
		res.fanOut(&b, kindBurst50, "Bursts of 50 events")
		res.fanOut(&b, kindPaced, "Paced: one event at a time")
		res.connects(&b)
	}
	res.drains(&b)
	res.besides(&b)
	res.storms(&b)
	res.plugins(&b)
	res.histories(&b)
	res.routes(&b)
	res.doors(&b)
	res.fronts(&b)
	res.deflates(&b)
	for i := range res.Curves {
		res.Curves[i].markdown(&b)
	}
	return b.String()
}

func (res *results) of(k kind) []summary {
	var list []summary
	for _, m := range res.Medians {
		if m.Kind == k && m.Route == "" && m.Front == "" && m.Deflate == "" && (m.History == "" || k == kindResume) {
			list = append(list, m)
		}
	}
	return list
}

func titleOf(name string) string {
	for _, s := range systems() {
		if s.name == name {
			return s.title
		}
	}
	return name
}

// why is the text that replaces values, "" if there are values.
func (m *summary) why() string {
	switch {
	case m.Faults > 0:
		return fmt.Sprintf("FAULT (%d times): %s", m.Faults, strings.ReplaceAll(m.Fault, "|", "/"))
	case m.Reps == 0:
		return m.Skip
	}
	return ""
}

// disturbed marks a row during which other processes used the machine.
func (m *summary) disturbed() string {
	if m.Others > 0.1 {
		return "°"
	}
	return ""
}

func (res *results) fanOut(b *strings.Builder, k kind, title string) {
	list := res.of(k)
	if len(list) == 0 {
		return
	}
	// by clients and size, so that the systems of one row of the plan are adjacent
	slices.SortStableFunc(list, func(x, y summary) int {
		if x.Clients != y.Clients {
			return x.Clients - y.Clients
		}
		return x.Size - y.Size
	})
	fmt.Fprintf(b, "\n## %s\n\n", title)
	b.WriteString("| clients | event | system | deliveries/s | CPU-s/M | × bare | p50 / p99 ms |")
	if k == kindPaced {
		b.WriteString(" events/s | Redis in / out, bytes an event |")
	} else {
		b.WriteString(" events, in bursts of |")
	}
	b.WriteString("\n|--:|--:|---|--:|--:|--:|--:|--:|")
	if k == kindPaced {
		b.WriteString("--:|")
	}
	b.WriteString("\n")
	for _, m := range list {
		fmt.Fprintf(b, "| %s | %s | %s |", thousands(float64(m.Clients)), sizeName(m.Size), titleOf(m.System))
		if w := m.why(); w != "" {
			fmt.Fprintf(b, " %s | | | |", w)
		} else {
			fmt.Fprintf(b, " %s | %s (%s – %s) | %s | %s / %s |", thousands(m.PerSecond),
				short(m.CPUPerM)+m.disturbed(), short(m.Least), short(m.Most), short(m.ToBare), short(m.P50), short(m.P99))
		}
		if k == kindPaced {
			fmt.Fprintf(b, " %.0f |", m.Rate)
			if m.RedisIn > 0 {
				fmt.Fprintf(b, " %s / %s |\n", thousands(m.RedisIn), thousands(m.RedisOut))
			} else {
				b.WriteString(" |\n")
			}
		} else {
			fmt.Fprintf(b, " %s, %s |\n", thousands(float64(m.Events)), thousands(float64(m.Burst)))
		}
	}
}

// fewClients is the number of clients below which memory and CPU of a ramp disappear in the server's own start.
const fewClients = 1000

func (res *results) connects(b *strings.Builder) {
	list := res.of(kindConnect)
	if len(list) == 0 {
		return
	}
	slices.SortStableFunc(list, func(x, y summary) int { return x.Clients - y.Clients })
	b.WriteString("\n## Connect and idle\n\n| clients | | system | CPU ms to connect | × bare | connects/s | KiB a " +
		"connection, right after the ramp | after a collection |\n|--:|---|---|--:|--:|--:|--:|--:|\n")
	for _, m := range list {
		if (m.Clients < fewClients || m.Session != "") && m.why() == "" {
			continue
		}
		tls := "plain"
		if m.TLS {
			tls = "TLS"
		}
		fmt.Fprintf(b, "| %s | %s | %s |", thousands(float64(m.Clients)), tls, titleOf(m.System))
		if w := m.why(); w != "" {
			fmt.Fprintf(b, " %s | | | | |\n", w)
			continue
		}
		after := ""
		if m.IdleAfterGC > 0 {
			after = short(m.IdleAfterGC)
		}
		fmt.Fprintf(b, " %s | %s | %s | %s | %s |\n", short(m.ConnectCPU), short(m.ToBare), thousands(m.ConnectPerSec),
			short(m.IdleKiB), after)
	}
}

func (res *results) drains(b *strings.Builder) {
	list := res.of(kindDrain)
	if len(list) == 0 {
		return
	}
	b.WriteString("\n## Drain of a filled key\n\n| system | events | size | events/s | CPU-s per million events |\n" +
		"|---|--:|--:|--:|--:|\n")
	for _, m := range list {
		fmt.Fprintf(b, "| %s | %s | %s |", titleOf(m.System), thousands(float64(m.Events)), sizeName(m.Size))
		if w := m.why(); w != "" {
			fmt.Fprintf(b, " %s | |\n", w)
			continue
		}
		fmt.Fprintf(b, " %s | %s |\n", thousands(m.PerSecond), short(m.CPUPerM))
	}
}

func (res *results) besides(b *strings.Builder) {
	list := res.of(kindBeside)
	if len(list) == 0 {
		return
	}
	b.WriteString("\n## Beside slow readers\n\n| system | clients | of them at 1 KB/s | event | events/s | p50 / p99 " +
		"ms of the other clients | CPU-s/M | KiB resident per slow reader | disconnected above the limit |\n" +
		"|---|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, m := range list {
		fmt.Fprintf(b, "| %s | %s | %d | %s | %.0f |", titleOf(m.System), thousands(float64(m.Clients)), m.Slow,
			sizeName(m.Size), m.Rate)
		switch w := m.why(); {
		case w != "":
			fmt.Fprintf(b, " %s | | | |\n", w)
		case m.Slow == 0:
			fmt.Fprintf(b, " %s / %s | %s | | |\n", short(m.P50), short(m.P99), short(m.CPUPerM)+m.disturbed())
		default:
			fmt.Fprintf(b, " %s / %s | %s | %s | %d |\n", short(m.P50), short(m.P99), short(m.CPUPerM)+m.disturbed(),
				short(m.QueueKiB), m.SlowEnds)
		}
	}
}

func (res *results) plugins(b *strings.Builder) {
	list := res.of(kindPlugin)
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## Plugins\n\n| plugin | CPU µs an event | the same without a plugin | p50 / p99 ms | longest wait, "+
		"ms | the same without a plugin |\n|---|--:|--:|--:|--:|--:|\n")
	for _, m := range list {
		fmt.Fprintf(b, "| %s |", findPlugin(m.Plugin).title)
		if w := m.why(); w != "" {
			fmt.Fprintf(b, " %s | | | | |\n", w)
			continue
		}
		fmt.Fprintf(b, " %s | %s | %s / %s | %s | %s |\n", short(m.CPUPerEvent)+m.disturbed(), short(list[0].CPUPerEvent),
			short(m.P50), short(m.P99), short(m.Longest), short(list[0].Longest))
	}
}

func (res *results) storms(b *strings.Builder) {
	if list := res.of(kindStorm); len(list) > 0 {
		b.WriteString("\n## A storm of connects\n\n| system | new clients | users | connects/s | CPU ms each | " +
			"requests to the API | p99 ms of the first 1,000: before | during |\n|---|--:|--:|--:|--:|--:|--:|--:|\n")
		for _, m := range list {
			fmt.Fprintf(b, "| %s | %s | %d |", titleOf(m.System), thousands(float64(m.Arrived)), m.Users)
			if w := m.why(); w != "" {
				fmt.Fprintf(b, " %s | | | | |\n", w)
				continue
			}
			fmt.Fprintf(b, " %s | %s | %d | %s | %s |\n", thousands(m.ConnectPerSec), short(m.ConnectCPU)+m.disturbed(),
				m.Questions, short(m.CalmP99), short(m.P99))
		}
	}
	if list := res.of(kindSwitch); len(list) > 0 {
		b.WriteString("\n## A storm of subscriptions\n\n| system | clients | to groups | seconds | commands to Redis " +
			"| requests to the API |\n|---|--:|--:|--:|--:|--:|\n")
		for _, m := range list {
			fmt.Fprintf(b, "| %s | %s | %d |", titleOf(m.System), thousands(float64(m.Clients)), m.Groups)
			if w := m.why(); w != "" {
				fmt.Fprintf(b, " %s | | |\n", w)
				continue
			}
			fmt.Fprintf(b, " %s | %s | %s |\n", short(m.Seconds), thousands(float64(m.RedisCommands)),
				thousands(float64(m.Questions)))
		}
	}
}

// short formats a value with about three significant digits.
func short(v float64) string {
	switch {
	case v <= 0: // none, or too small to measure
		return "–"
	case v < 0.1:
		return fmt.Sprintf("%.3f", v)
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return thousands(v)
}

// thousands formats a whole number with commas.
func thousands(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
