//go:build soak

package soak

import (
	"context"
	"fmt"
	"strings"
)

// part is a feature of the product at work under the site's faults.
type part interface {
	// run works until ctx ends. By then the faults are mended: run waits for what is still on its way, judges, reports
	// faults to the test, and leaves no connection behind. It is called once for each play.
	run(ctx context.Context)
	// work returns what the part has done in all plays.
	work() []count
}

// count is a number of deeds. A number of 0 at the end means that the soak has proved nothing about them.
type count struct {
	name string
	n    int64
	// long deeds take longer than a short run has.
	long bool
}

// idle returns the names of the deeds that were never done.
func idle(counts []count, long bool) (names []string) {
	for _, c := range counts {
		if c.n == 0 && (long || !c.long) {
			names = append(names, c.name)
		}
	}
	return names
}

// tell returns the counts as lines of at most about 120 columns.
func tell(counts []count) string {
	var b strings.Builder
	width := 0
	for i, c := range counts {
		text := fmt.Sprintf("%d %s", c.n, c.name)
		switch {
		case i == 0:
		case width+len(text) > 116:
			b.WriteString(",\n")
			width = 0
		default:
			b.WriteString(", ")
			width += 2
		}
		b.WriteString(text)
		width += len(text)
	}
	return b.String()
}
