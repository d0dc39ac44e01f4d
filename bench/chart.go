//go:build linux

package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"strings"
)

// chart is a set of horizontal bars on a logarithmic axis, in groups: systems lie factors of a hundred apart.
type chart struct {
	file, title, unit string
	groups            []chartGroup
}

type chartGroup struct {
	label string
	bars  []chartBar
}

type chartBar struct {
	system string
	value  float64 // 0: no figure
	note   string
}

// barColours serves light and dark pages alike: middling lightness, told apart without red against green.
var barColours = map[string]string{
	"bare": "#8a8f98", "edgerelay": "#0f8bd0", "edgerelay-redis": "#1fb5c9", "nchan": "#c98a1b", "daphne": "#c4566b",
}

const (
	chartWidth = 820
	labelWidth = 250
	barHeight  = 18
	groupGap   = 26
	valueWidth = 110
)

// svg draws the chart. Text takes its colour from the reader's scheme.
func (c *chart) svg() []byte {
	least, most := math.Inf(1), 0.0
	height := 52
	for _, g := range c.groups {
		height += groupGap + len(g.bars)*barHeight
		for _, b := range g.bars {
			if b.value > 0 {
				least, most = min(least, b.value), max(most, b.value)
			}
		}
	}
	if most == 0 {
		least, most = 1, 10
	}
	low, high := math.Floor(math.Log10(least)-0.3), math.Ceil(math.Log10(most))
	if high <= low {
		high = low + 1
	}
	const span = chartWidth - labelWidth - valueWidth
	at := func(v float64) float64 { return labelWidth + span*(math.Log10(v)-low)/(high-low) }

	var b bytes.Buffer
	beginSVG(&b, height, c.title)
	for d := low; d <= high; d++ {
		x := at(math.Pow(10, d))
		fmt.Fprintf(&b, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"46\" y2=\"%d\"/><text class=\"dim\" x=\"%.1f\" y=\"42\" text-anchor=\"middle\">%s</text>\n",
			x, x, height-6, x, axisLabel(d))
	}
	fmt.Fprintf(&b, "<text class=\"dim\" x=\"12\" y=\"42\">%s, logarithmic</text>\n", html.EscapeString(c.unit))
	y := 52
	for _, g := range c.groups {
		y += groupGap
		fmt.Fprintf(&b, "<text x=\"12\" y=\"%d\" font-weight=\"600\">%s</text>\n", y-7, html.EscapeString(g.label))
		for _, bar := range g.bars {
			fmt.Fprintf(&b, "<text class=\"dim\" x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", labelWidth-8, y+12, html.EscapeString(strings.ReplaceAll(titleOf(bar.system), "*", "")))
			if bar.value > 0 {
				fmt.Fprintf(&b, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" rx=\"2\" fill=\"%s\"/><text class=\"dim\" x=\"%.1f\" y=\"%d\">%s</text>\n",
					labelWidth, y+1, max(2, at(bar.value)-labelWidth), barHeight-4, barColours[bar.system], at(bar.value)+6, y+12, short(bar.value))
			} else {
				fmt.Fprintf(&b, "<text class=\"dim\" x=\"%d\" y=\"%d\">%s</text>\n", labelWidth+6, y+12, html.EscapeString(bar.note))
			}
			y += barHeight
		}
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func axisLabel(power float64) string {
	if power < 0 {
		return fmt.Sprintf("%.*f", int(-power), math.Pow(10, power))
	}
	return thousands(math.Pow(10, power))
}

// charts draws what was measured.
func (res *results) charts() []*chart {
	if res.Mode == "growth" {
		return nil
	}
	all := []*chart{
		res.chartOf("burst-cpu.svg", "CPU for a million deliveries in bursts: less is better", "CPU seconds", kindBurst, func(m *summary) float64 { return m.CPUPerM }),
		res.chartOf("burst-rate.svg", "Deliveries a second in bursts: more is better", "deliveries/s", kindBurst, func(m *summary) float64 { return m.PerSecond }),
		res.chartOf("paced-cpu.svg", "CPU for a million deliveries, one event at a time: less is better", "CPU seconds", kindPaced, func(m *summary) float64 { return m.CPUPerM }),
		res.chartOf("paced-p99.svg", "Latency, one event at a time, 99 of 100 below: less is better", "milliseconds", kindPaced, func(m *summary) float64 { return m.P99 }),
		res.chartOf("redis-bytes.svg", "Redis traffic for one event, in and out: less is better", "bytes", kindPaced, func(m *summary) float64 { return m.RedisIn + m.RedisOut }),
		res.chartOf("idle-memory.svg", "Memory of an idle connection right after the ramp: less is better", "KiB", kindConnect, func(m *summary) float64 { return m.IdleKiB }),
		res.chartOf("connect-cpu.svg", "CPU to connect one client: less is better", "milliseconds", kindConnect, func(m *summary) float64 { return m.ConnectCPU }),
	}
	var drawn []*chart
	for _, c := range all {
		if len(c.groups) > 0 {
			drawn = append(drawn, c)
		}
	}
	return drawn
}

func (res *results) chartOf(file, title, unit string, k kind, figure func(*summary) float64) *chart {
	c := &chart{file: file, title: title, unit: unit}
	at := make(map[string]int)
	for _, m := range res.of(k) {
		v := figure(&m)
		if m.Clients == 1 || v == 0 && m.why() == "" || k == kindConnect && m.Clients < fewClients {
			continue
		}
		if strings.HasPrefix(file, "redis") && !strings.HasSuffix(m.System, "redis") && m.System != "daphne" {
			continue
		}
		label := thousands(float64(m.Clients)) + " clients"
		if m.Size > 0 {
			label += ", " + sizeName(m.Size)
		}
		if m.TLS {
			label += ", TLS"
		}
		i, seen := at[label]
		if !seen {
			i = len(c.groups)
			at[label] = i
			c.groups = append(c.groups, chartGroup{label: label})
		}
		note := m.why()
		c.groups[i].bars = append(c.groups[i].bars, chartBar{m.System, v, note[:min(len(note), 70)]})
	}
	return c
}

// beginSVG writes the head of a chart, for a bright page and a dark one.
func beginSVG(b *bytes.Buffer, height int, title string) {
	title = html.EscapeString(title)
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">
<style>
 svg{font:13px system-ui,sans-serif;background:#ffffff}
 text{fill:#1f2328}.dim{fill:#59636e;font-size:11px}.grid{stroke:#d1d9e0}.page{fill:#ffffff}
 @media (prefers-color-scheme:dark){svg{background:#0d1117}text{fill:#f0f6fc}.dim{fill:#9198a1}.grid{stroke:#3d444d}.page{fill:#0d1117}}
</style>
<rect class="page" width="100%%" height="100%%"/>
<text x="12" y="22" font-weight="600">%s</text>
`, chartWidth, height, chartWidth, height, title, title)
}
