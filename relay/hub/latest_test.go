package hub_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
)

// delayedHistory is a history whose reads wait while there is a gate.
type delayedHistory struct {
	relay.History
	gate atomic.Pointer[chan struct{}]
}

func (d *delayedHistory) Read(ctx context.Context, queries []relay.HistoryQuery) []relay.HistoryPage {
	if gate := d.gate.Load(); gate != nil {
		select {
		case <-*gate:
		case <-ctx.Done():
		}
	}
	return d.History.Read(ctx, queries)
}

// Events that come while a read of the history waits belong to the replay of a client that asks for the last events,
// however few it asks for: each comes once and in order, for the first client of a group as well.
func TestLastEventsUnderALiveStream(t *testing.T) {
	for _, first := range []bool{true, false} {
		t.Run(fmt.Sprint("first client ", first), func(t *testing.T) {
			h, emitter, ring := historyHub(t)
			history := &delayedHistory{History: ring}
			h.SetHistory(history)
			if !first { // a client that stays: the head of the group is known
				watcher, w := openWithPositions(h)
				follow(t, watcher, relay.Groups("h-1")...)
				testkit.Eventually(t, "the beginning", func() bool { return len(w.got()) == 2 })
				for _, text := range []string{"a", "b", "c"} {
					publish(t, emitter, "h-1", text)
				}
				testkit.Eventually(t, "the events", func() bool { return len(w.got()) == 5 })
			}
			gate := make(chan struct{})
			history.gate.Store(&gate)
			session, s := openWithPositions(h)
			follow(t, session, relay.Subscription{Group: "h-1", Resume: &relay.Resume{Latest: 2}})
			want := []string{"current", "subscribed h-1 - 5"}
			for i := range 5 {
				publish(t, emitter, "h-1", fmt.Sprint("live", i))
				want = append(want, fmt.Sprint("event h-1 live", i))
			}
			close(gate)
			expectFrames(t, s, want...)
			publish(t, emitter, "h-1", "end")
			expectFrames(t, s, append(want, "event h-1 end")...)
		})
	}
}
