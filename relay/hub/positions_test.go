package hub_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/history/ring"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// plainTexts is a protocol for clients with positions whose frames tests can read.
type plainTexts struct{ changeText }

func (plainTexts) AppendEvent(dst []byte, ev *relay.Event, text []byte) []byte {
	if ev.Position.IsZero() {
		return fmt.Appendf(dst, "event %s - %s", ev.Group, text)
	}
	return fmt.Appendf(dst, "event %s %s %s", ev.Group, ev.Position, text)
}

func (plainTexts) EncodeResumed(r relay.Resumed) []byte {
	reason := "ok"
	if r.Reason != nil {
		reason = r.Reason.Error()
	}
	if !r.Asked {
		reason = "-"
	}
	position := "-"
	if !r.Position.IsZero() {
		position = r.Position.String()
	}
	return fmt.Appendf(nil, "subscribed %s %s %s %d", r.Group, position, reason, r.Events)
}

func (plainTexts) EncodeGap(g relay.Gap) []byte {
	position := "-"
	if !g.Position.IsZero() {
		position = g.Position.String()
	}
	return fmt.Appendf(nil, "gap %s %s %s %d", strings.Join(g.Groups, ","), position, g.Cause, g.Events)
}

func (plainTexts) EncodeWithheld(group string, p relay.Position) []byte {
	return fmt.Appendf(nil, "withheld %s %s", group, p)
}

// historyHub returns a hub whose groups "h-…" have a history in a ring, and an emitter.
func historyHub(t testing.TB) (*hub.Hub, relay.Broker, *ring.Ring) {
	t.Helper()
	h, emitter := newHub(t)
	h.SetProtocol(plainTexts{})
	r := ring.New(relay.HistoryPolicy{Rules: []relay.HistoryRule{
		{Pattern: "h-*", HistoryLimits: relay.DefaultHistoryLimits},
	}}, time.Now)
	h.SetHistory(r)
	return h, emitter, r
}

// openWithPositions opens a session of a client that gets positions.
func openWithPositions(h *hub.Hub) (*hub.Session, *socket) {
	session, s := open(h)
	session.OptIn()
	return session, s
}

// follow subscribes a client that gets positions. Its first frame is "current".
func follow(t testing.TB, s *hub.Session, subs ...relay.Subscription) {
	t.Helper()
	change, err := s.Subscribe(context.Background(), subs)
	if err != nil {
		t.Fatal(err)
	}
	s.SendChange(change, func(relay.Change) []byte { return []byte("current") })
}

// tokensOf returns the positions in frames about events.
func tokensOf(t testing.TB, frames []string) (positions []relay.Position) {
	t.Helper()
	for _, f := range frames {
		fields := strings.SplitN(f, " ", 4)
		if fields[0] != "event" || fields[2] == "-" {
			continue
		}
		p, err := relay.ParsePosition(fields[2])
		if err != nil {
			t.Fatalf("%q: %v", f, err)
		}
		positions = append(positions, p)
	}
	return positions
}

// shown returns frames without positions.
func shown(frames []string) (short []string) {
	for _, f := range frames {
		fields := strings.SplitN(f, " ", 4)
		if len(fields) == 4 {
			f = fields[0] + " " + fields[1] + " " + fields[3]
		}
		short = append(short, f)
	}
	return short
}

// expectFrames waits for frames, and compares them without positions.
func expectFrames(t testing.TB, s *socket, want ...string) {
	t.Helper()
	testkit.Eventually(t, "the frames", func() bool { return len(s.got()) >= len(want) })
	if got := shown(s.got()); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Plain clients and clients with positions of the same groups each get their own form, in order.
func TestEachKindOfClientGetsItsForm(t *testing.T) {
	h, emitter, _ := historyHub(t)
	plain, p := open(h)
	subscribe(t, h, plain, "h-1", "other-1")
	session, s := openWithPositions(h)
	follow(t, session, relay.Groups("h-1", "other-1")...)
	expectFrames(t, s, "current", "subscribed other-1 - 0", "subscribed h-1 - 0")
	for i := range 3 {
		publish(t, emitter, "h-1", fmt.Sprint("a", i))
		publish(t, emitter, "other-1", fmt.Sprint("b", i))
	}
	expectFrames(t, p, "a0", "b0", "a1", "b1", "a2", "b2")
	expectFrames(t, s, "current", "subscribed other-1 - 0", "subscribed h-1 - 0", "event h-1 a0", "event other-1 b0",
		"event h-1 a1", "event other-1 b1", "event h-1 a2", "event other-1 b2")
	if n := len(tokensOf(t, s.got())); n != 3 {
		t.Errorf("%d events have a position, want 3", n)
	}
}

// A client that comes back gets what it missed, once, and then the live stream.
func TestClientResumes(t *testing.T) {
	h, emitter, _ := historyHub(t)
	stays, _ := open(h)
	subscribe(t, h, stays, "h-1")
	session, s := openWithPositions(h)
	follow(t, session, relay.Groups("h-1")...)
	expectFrames(t, s, "current", "subscribed h-1 - 0")
	publish(t, emitter, "h-1", "a")
	publish(t, emitter, "h-1", "b")
	expectFrames(t, s, "current", "subscribed h-1 - 0", "event h-1 a", "event h-1 b")
	had := tokensOf(t, s.got())
	session.Close()
	publish(t, emitter, "h-1", "c")
	publish(t, emitter, "h-1", "d")
	session, s = openWithPositions(h)
	follow(t, session, relay.Subscription{Group: "h-1", Resume: &relay.Resume{After: had}})
	expectFrames(t, s, "current", "subscribed h-1 ok 2", "event h-1 c", "event h-1 d")
	publish(t, emitter, "h-1", "e")
	expectFrames(t, s, "current", "subscribed h-1 ok 2", "event h-1 c", "event h-1 d", "event h-1 e")
	if st := h.ResumeStats(); st.Recovered != 1 || st.Events != 2 || st.Waiting != 0 || st.Clients != 1 {
		t.Errorf("%+v", st)
	}
}
