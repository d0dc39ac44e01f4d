//go:build linux

package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"strings"
)

// curve is how several figures move with one quantity: a table, and charts of some of its columns.
type curve struct {
	Name    string       `json:"name"` // begins the names of its files
	Title   string       `json:"title"`
	Text    string       `json:"text"` // what was done
	X       string       `json:"x"`
	Columns []string     `json:"columns"`
	Points  []point      `json:"points"`
	Charts  []curveChart `json:"charts"`
	Log     bool         `json:"logarithmic"` // both axes
}

// point is one row of a curve. Note stands in place of figures that could not be measured.
type point struct {
	X      float64   `json:"x"`
	Values []float64 `json:"values"`
	Note   string    `json:"note,omitempty"`
}

// curveChart draws some columns, which have one unit.
type curveChart struct {
	Title   string `json:"title"`
	Unit    string `json:"unit"`
	Columns []int  `json:"columns"`
}

func (c *curve) markdown(b *strings.Builder) {
	fmt.Fprintf(b, "\n## %s\n\n%s\n\n| %s |", c.Title, c.Text, c.X)
	for _, name := range c.Columns {
		fmt.Fprintf(b, " %s |", name)
	}
	b.WriteString("\n|--:|" + strings.Repeat("--:|", len(c.Columns)) + "\n")
	for _, p := range c.Points {
		fmt.Fprintf(b, "| %s |", thousands(p.X))
		for i := range c.Columns {
			switch {
			case p.Note != "" && i == 0:
				fmt.Fprintf(b, " %s |", p.Note)
			case i < len(p.Values):
				fmt.Fprintf(b, " %s |", short(p.Values[i]))
			default:
				b.WriteString(" |")
			}
		}
		b.WriteString("\n")
	}
}

// lineColours serves light and dark pages alike.
var lineColours = []string{"#0f8bd0", "#c98a1b", "#c4566b", "#7a6fd0", "#3a9d7a"}

const (
	plotLeft, plotRight, plotTop, plotBottom = 80, 560, 54, 300
	plotHeight                               = 350
)

// axis maps values to places, with marks at round values.
type axis struct {
	low, high float64 // of the values, or of their logarithms
	log       bool
}

func newAxis(values []float64, log bool) axis {
	a := axis{low: math.Inf(1), high: math.Inf(-1), log: log}
	for _, v := range values {
		if log {
			if v <= 0 {
				continue
			}
			v = math.Log10(v)
		}
		a.low, a.high = min(a.low, v), max(a.high, v)
	}
	switch {
	case math.IsInf(a.low, 0):
		a.low, a.high = 0, 1
	case log:
		a.low, a.high = math.Floor(a.low), math.Ceil(a.high)
	default:
		a.low = 0
	}
	if a.high <= a.low {
		a.high = a.low + 1
	}
	return a
}

func (a axis) at(v, from, to float64) float64 {
	if a.log {
		v = math.Log10(v)
	}
	return from + (to-from)*(v-a.low)/(a.high-a.low)
}

func (a axis) marks() (marks []float64) {
	if a.log {
		for d := a.low; d <= a.high; d++ {
			marks = append(marks, math.Pow(10, d))
		}
		return marks
	}
	step := math.Pow(10, math.Floor(math.Log10(a.high)))
	for a.high/step < 4 {
		step /= 2
	}
	for v := 0.0; v <= a.high*1.0001; v += step {
		marks = append(marks, v)
	}
	return marks
}

// svg draws one chart of the curve.
func (c *curve) svg(chart curveChart) []byte {
	var xs, ys []float64
	for _, p := range c.Points {
		xs = append(xs, p.X)
		for _, i := range chart.Columns {
			if i < len(p.Values) {
				ys = append(ys, p.Values[i])
			}
		}
	}
	x, y := newAxis(xs, c.Log), newAxis(ys, c.Log)
	var b bytes.Buffer
	beginSVG(&b, plotHeight, chart.Title)
	fmt.Fprintf(&b, `<text class="dim" x="12" y="42">%s</text>
<text class="dim" x="%d" y="%d" text-anchor="end">%s</text>
`, html.EscapeString(chart.Unit), plotRight, plotHeight-14, html.EscapeString(c.X))
	for _, m := range x.marks() {
		at := x.at(m, plotLeft, plotRight)
		fmt.Fprintf(&b, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/><text class=\"dim\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
			at, at, plotTop, plotBottom, at, plotBottom+16, mark(m))
	}
	for _, m := range y.marks() {
		at := y.at(m, plotBottom, plotTop)
		fmt.Fprintf(&b, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text class=\"dim\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
			plotLeft, plotRight, at, at, plotLeft-6, at+4, mark(m))
	}
	for n, column := range chart.Columns {
		colour := lineColours[n%len(lineColours)]
		var line strings.Builder
		last := 0.0
		for _, p := range c.Points {
			if column >= len(p.Values) || c.Log && (p.Values[column] <= 0 || p.X <= 0) {
				continue
			}
			px, py := x.at(p.X, plotLeft, plotRight), y.at(p.Values[column], plotBottom, plotTop)
			fmt.Fprintf(&line, "%.1f,%.1f ", px, py)
			fmt.Fprintf(&b, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n", px, py, colour)
			last = p.Values[column]
		}
		fmt.Fprintf(&b, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"%s\"/>\n", colour, strings.TrimSpace(line.String()))
		fmt.Fprintf(&b, "<rect x=\"%d\" y=\"%d\" width=\"12\" height=\"12\" rx=\"2\" fill=\"%s\"/><text class=\"dim\" x=\"%d\" y=\"%d\">%s: %s at last</text>\n",
			plotRight+20, plotTop+n*24, colour, plotRight+38, plotTop+n*24+10, html.EscapeString(c.Columns[column]), short(last))
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// mark writes a round value at an axis.
func mark(v float64) string {
	if v == 0 || v >= 1 {
		if v >= 10 || v == math.Trunc(v) {
			return thousands(v)
		}
	}
	return strings.TrimRight(fmt.Sprintf("%.4f", v), "0")
}
