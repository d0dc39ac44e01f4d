package relay_test

import (
	"testing"

	"github.com/edgerelay/edgerelay/relay"
)

// A client gets the chained form only behind the message that it refers to, and no form beyond its window.
func TestWindowChooses(t *testing.T) {
	buffer := func(previous, last uint64, alone, chained, each int) *relay.Compressed {
		return &relay.Compressed{
			Previous: previous, Last: last,
			Window: [relay.FormCount]int{relay.Alone: alone, relay.Chained: chained, relay.Each: each},
		}
	}
	type step struct {
		buffer *relay.Compressed
		want   relay.Form
	}
	for name, c := range map[string]struct {
		window relay.Window
		steps  []step
	}{
		"not agreed": {0, []step{{buffer(0, 1, 10, 10, 10), relay.Plain}, {buffer(1, 2, 10, 20, 10), relay.Plain}}},
		"usual": {relay.NewWindow(15, true), []step{
			{buffer(0, 1, 10, 10, 10), relay.Alone},
			{buffer(1, 4, 10, 20, 10), relay.Chained},
			{buffer(3, 5, 10, 20, 10), relay.Alone}, // another group's
			{buffer(4, 6, 10, 20, 10), relay.Alone},
			{buffer(6, 1<<55, 10, 20, 10), relay.Chained},
			{buffer(1<<55, 1<<55+1, 10, 20, 10), relay.Chained},
		}},
		"no takeover": {relay.NewWindow(15, false), []step{
			{buffer(0, 1, 10, 10, 10), relay.Each},
			{buffer(1, 2, 10, 20, 10), relay.Each},
			{buffer(1, 2, 10, 20, 1<<15+1), relay.Plain},
		}},
		"small window": {relay.NewWindow(9, true), []step{
			{buffer(0, 1, 500, 500, 500), relay.Alone},
			{buffer(1, 2, 500, 1000, 500), relay.Alone},
			{buffer(2, 3, 1000, 1200, 500), relay.Each},
			{buffer(3, 4, 100, 512, 100), relay.Chained},
			{buffer(4, 5, 600, 800, 600), relay.Plain}, // leaves the window as it is
			{buffer(4, 6, 100, 200, 100), relay.Chained},
		}},
		"bounds": {relay.NewWindow(1, true), []step{
			{buffer(0, 1, 256, 256, 256), relay.Alone}, {buffer(0, 2, 257, 257, 257), relay.Plain},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if got, want := c.window.Deflates(), c.window != 0; got != want {
				t.Errorf("Deflates is %v", got)
			}
			for i, s := range c.steps {
				if got := c.window.Choose(s.buffer); got != s.want {
					t.Errorf("step %d: %s, want %s", i, got, s.want)
				}
			}
		})
	}
}
