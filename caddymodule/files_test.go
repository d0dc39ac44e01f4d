package caddymodule

import (
	"math"
	"testing"
)

func TestWithinFiles(t *testing.T) {
	for _, c := range []struct{ connections, files, want int }{
		{100_000, 0, 100_000},
		{0, 0, 0}, // no limit on files
		{100_000, 1024, 960},
		{0, 1024, 960},
		{500, 1024, 500},
		{100_000, 20_000, 19_375},
		{100_000, 1 << 20, 100_000},
		{100_000, 65_536, 64_512},
		{100_000, 40, 1},
		{0, math.MaxInt32, math.MaxInt32 - 1024},
	} {
		if got := withinFiles(c.connections, c.files); got != c.want {
			t.Errorf("%d connections, %d files: %d, want %d", c.connections, c.files, got, c.want)
		}
	}
}
