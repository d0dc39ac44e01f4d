//go:build linux

package main

import (
	"fmt"
	"strings"
)

// curve is how several figures change with one quantity.
type curve struct {
	Name    string   `json:"name"`
	Title   string   `json:"title"`
	Text    string   `json:"text"` // the method
	X       string   `json:"x"`
	Columns []string `json:"columns"`
	Points  []point  `json:"points"`
}

// point is one row of a curve. Note replaces values that could not be measured.
type point struct {
	X      float64   `json:"x"`
	Values []float64 `json:"values"`
	Note   string    `json:"note,omitempty"`
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
