package hub_test

import (
	"slices"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// A tail begins with the last events of the history, or with those after a position, and goes on with live ones.
func TestTailBeginsWithHistory(t *testing.T) {
	h, emitter, _ := historyHub(t)
	session, s := openWithPositions(h)
	follow(t, session, relay.Groups("h-1")...)
	testkit.Eventually(t, "the beginning", func() bool { return len(s.got()) == 2 })
	for _, text := range []string{"a", "b", "c"} {
		publish(t, emitter, "h-1", text)
	}
	testkit.Eventually(t, "the events", func() bool { return len(s.got()) == 5 })
	had := tokensOf(t, s.got())
	for _, c := range []struct {
		name  string
		since relay.Resume
		raw   bool
		want  []string
	}{
		{"position", relay.Resume{After: had[:1]}, false, []string{"b", "c", "live"}},
		{"latest", relay.Resume{Latest: 2}, false, []string{"c", "live", "live"}},
		{"raw", relay.Resume{Latest: 1}, true, []string{"live", "live"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tail, err := h.Tail(t.Context(), "h-1", hub.TailOptions{Since: &c.since, Raw: c.raw})
			if err != nil {
				t.Fatal(err)
			}
			defer tail.Close()
			if r := tail.Resumed(); r.Reason != nil || r.Events != len(c.want)-1 || r.Position.IsZero() {
				t.Errorf("resumed %+v", r)
			}
			h.Forward([]relay.Event{{Group: "h-1", Text: []byte("c"), Position: had[2]}}) // known
			publish(t, emitter, "h-1", "live")
			var got []string
			for len(got) < len(c.want) {
				events, _, err := tail.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, ev := range events {
					got = append(got, string(ev.Text))
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if _, err := h.Tail(t.Context(), "h-*", hub.TailOptions{Since: &relay.Resume{Latest: 1}}); err == nil {
		t.Error("a pattern with since is no error")
	}
	tail, err := h.Tail(t.Context(), "other-1", hub.TailOptions{Since: &relay.Resume{After: had}})
	if err != nil {
		t.Fatal(err)
	}
	defer tail.Close()
	if r := tail.Resumed(); r.Reason != relay.NotRecoveredOff {
		t.Errorf("without history: %+v", r)
	}
}
