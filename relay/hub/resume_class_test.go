package hub_test

import (
	"context"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// replayRules is an interceptor whose rules for classes change, with replays by the rules of their time.
type replayRules struct{ rules }

func (r *replayRules) redact(events []relay.Event) []relay.Event {
	for i := range events {
		events[i].Redaction = r.event(string(events[i].Text)).Redaction
	}
	return events
}

func (r *replayRules) Intercept(events []relay.Event) []relay.Event { return r.redact(events) }

func (r *replayRules) Replay(_ context.Context, events []relay.Event) ([]relay.Event, []relay.Position, error) {
	return r.redact(events), nil, nil
}

// The rules for classes change while the history is read: the client gets the replay for the class that it has now.
func TestClassChangesDuringRead(t *testing.T) {
	h, emitter, history := gatedHub(t)
	r := &replayRules{}
	r.decide = always(1)
	had := positionsOf(t, h, emitter, "h-1", "a", "b")
	h.SetInterceptor(r)
	history.closed.Store(true)
	session, s := openWithPositions(h)
	sub, err := session.Authorize(t.Context(), "h-1", false)
	if err != nil {
		t.Fatal(err)
	}
	sub.Resume = &relay.Resume{After: had[:1]}
	follow(t, session, sub)
	<-history.begun
	r.change(h, always(2))
	testkit.Eventually(t, "the classification", func() bool { return r.asked.Load() >= 2 })
	history.closed.Store(false)
	close(history.gate)
	expectFrames(t, s, "current", "subscribed h-1 ok 2", "event h-1 a for 2", "event h-1 b for 2")
	publish(t, emitter, "h-1", "c")
	expectFrames(t, s, "current", "subscribed h-1 ok 2", "event h-1 a for 2", "event h-1 b for 2", "event h-1 c for 2")
}

// The right to a group ends while the history is read: nothing of it reaches the client.
func TestRightEndsDuringRead(t *testing.T) {
	h, emitter, history := gatedHub(t)
	r := &replayRules{}
	r.decide = always(1)
	had := positionsOf(t, h, emitter, "h-1", "a", "b")
	h.SetInterceptor(r)
	history.closed.Store(true)
	session, s := openWithPositions(h)
	sub, err := session.Authorize(t.Context(), "h-1", false)
	if err != nil {
		t.Fatal(err)
	}
	sub.Resume = &relay.Resume{After: had[:1]}
	follow(t, session, sub)
	<-history.begun
	r.change(h, func(relay.Identity) (uint8, error) { return 0, relay.ErrDenied })
	expectFrames(t, s, "current", "left [h-1]")
	close(history.gate)
	testkit.Eventually(t, "the end of the wave", func() bool { return h.ResumeStats().Waiting == 0 })
	publish(t, emitter, "h-1", "c")
	testkit.Eventually(t, "the event", func() bool { return h.Stats().Unheard > 0 })
	expectFrames(t, s, "current", "left [h-1]")
	if _, total := h.Sessions(hub.SessionFilter{Group: "h-1"}, 0, 1); total != 0 {
		t.Errorf("%d sessions are subscribed", total)
	}
}
