package hub_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// gatedHistory is a history whose reads end when the gate is open.
type gatedHistory struct {
	relay.History
	closed atomic.Bool // reads wait
	gate   chan struct{}
	begun  chan struct{}

	mu    sync.Mutex
	reads [][]relay.HistoryQuery
}

// gatedHub is historyHub with a gate.
func gatedHub(t testing.TB) (*hub.Hub, relay.Broker, *gatedHistory) {
	h, emitter, r := historyHub(t)
	g := &gatedHistory{History: r, gate: make(chan struct{}), begun: make(chan struct{}, 100)}
	h.SetHistory(g)
	return h, emitter, g
}

func (g *gatedHistory) Read(ctx context.Context, queries []relay.HistoryQuery) []relay.HistoryPage {
	g.mu.Lock()
	g.reads = append(g.reads, queries)
	g.mu.Unlock()
	pages := g.History.Read(ctx, queries)
	if g.closed.Load() {
		g.begun <- struct{}{}
		<-g.gate
	}
	return pages
}

func (g *gatedHistory) count() (calls, groups int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, queries := range g.reads {
		groups += len(queries)
	}
	return len(g.reads), groups
}

// positionsOf publishes events, and returns their positions and a position before them.
func positionsOf(t testing.TB, h *hub.Hub, emitter relay.Broker, group string, texts ...string) []relay.Position {
	t.Helper()
	session, s := openWithPositions(h)
	defer session.Close()
	follow(t, session, relay.Groups(group)...)
	testkit.Eventually(t, "the beginning", func() bool { return len(s.got()) == 2 })
	base, err := relay.ParsePosition(strings.Fields(s.got()[1])[2])
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		publish(t, emitter, group, text)
	}
	testkit.Eventually(t, "the events", func() bool { return len(s.got()) == 2+len(texts) })
	return append([]relay.Position{base}, tokensOf(t, s.got())...)
}

func resumeAfter(group string, after ...relay.Position) relay.Subscription {
	return relay.Subscription{Group: group, Resume: &relay.Resume{After: after}}
}

// Clients that resume at the same time share one read, and those that come meanwhile the next. Live events of the group
// come after the replay; other groups are not delayed.
func TestResumesShareReads(t *testing.T) {
	h, emitter, history := gatedHub(t)
	had := positionsOf(t, h, emitter, "h-1", "a", "b", "c")
	before, _ := history.count()
	history.closed.Store(true)
	var sockets []*socket
	resume := func(n int) {
		for range n {
			session, s := openWithPositions(h)
			follow(t, session, resumeAfter("h-1", had[0], had[1]), relay.Subscription{Group: "other-1"})
			sockets = append(sockets, s)
		}
	}
	resume(1)
	<-history.begun
	resume(200)
	publish(t, emitter, "h-1", "live")
	publish(t, emitter, "other-1", "other")
	testkit.Eventually(t, "the event of the other group", func() bool { return len(sockets[200].got()) == 3 })
	if st := h.ResumeStats(); st.Waiting != 201 {
		t.Errorf("%d subscriptions wait, want 201", st.Waiting)
	}
	close(history.gate)
	for i, s := range sockets {
		beginning := "subscribed h-1 ok 3"
		if i == 0 {
			beginning = "subscribed h-1 ok 2" // the live event came after the read
		}
		expectFrames(t, s, "current", "subscribed other-1 - 0", "event other-1 other", beginning, "event h-1 b",
			"event h-1 c", "event h-1 live")
		if t.Failed() {
			t.Fatalf("client %d", i)
		}
	}
	if calls, _ := history.count(); calls != before+2 {
		t.Errorf("%d reads for 201 clients, want 2", calls-before)
	}
}

// Clients that come back one after another share reads, too.
func TestReadsOfGroupAreSpaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hub.New(quiet)
		h.SetAuthorizer(relay.Open{}, 0)
		h.SetProtocol(plainTexts{})
		model, base := &modelHistory{}, relay.Position{Micros: time.Now().UnixMicro(), Mark: 1}
		model.store(base, []byte("a"))
		h.SetHistory(model)
		const clients = 1000
		for range clients {
			session := h.Open(discard{}, relay.Identity{ID: "1"}, netip.Addr{})
			session.OptIn()
			follow(t, session, resumeAfter("h-1", base))
			defer session.Close()
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(time.Second)
		if st := h.ResumeStats(); st.Recovered != clients || st.Reads > 30 {
			t.Errorf("%d reads for %d clients in five seconds", st.Reads, st.Recovered)
		}
		closeHub(t, h)
	})
}

// Clients that do not resume cost one read for each group, however many they are.
func TestBeginningsNeedFewReads(t *testing.T) {
	h, _, history := gatedHub(t)
	const groups, each = 50, 20
	var sockets []*socket
	for i := range groups * each {
		session, s := openWithPositions(h)
		follow(t, session, relay.Groups(fmt.Sprint("h-", i%groups))...)
		sockets = append(sockets, s)
		if i < groups {
			testkit.Eventually(t, "the beginning", func() bool { return len(s.got()) == 2 })
		}
	}
	for _, s := range sockets {
		testkit.Eventually(t, "the beginning", func() bool { return len(s.got()) == 2 })
		if fields := strings.Fields(s.got()[1]); fields[2] == "-" {
			t.Fatalf("%q has no position", s.got()[1])
		}
	}
	if _, n := history.count(); n != groups {
		t.Errorf("%d reads for %d groups", n, groups)
	}
}

// latest asks for the last events.
func TestClientAsksForLastEvents(t *testing.T) {
	h, emitter, _ := historyHub(t)
	positionsOf(t, h, emitter, "h-1", "a", "b", "c")
	session, s := openWithPositions(h)
	follow(t, session, relay.Subscription{Group: "h-1", Resume: &relay.Resume{Latest: 2}})
	expectFrames(t, s, "current", "subscribed h-1 - 2", "event h-1 b", "event h-1 c")
	if st := h.ResumeStats(); st.Latest != 1 {
		t.Errorf("%+v", st)
	}
}

// filter is an interceptor that cannot replay.
type filter struct{}

func (filter) Intercept(events []relay.Event) []relay.Event { return events }

func (filter) Classify(context.Context, relay.Identity, string) (c relay.Classification, err error) {
	return c, nil
}

// failingReplay cannot process a replay.
type failingReplay struct{ filter }

func (failingReplay) Replay(context.Context, []relay.Event) ([]relay.Event, []relay.Position, error) {
	return nil, nil, errors.New("the plugin is closed")
}

// withholding fails on an event of a replay, and drops another one.
type withholding struct{ filter }

func (withholding) Replay(_ context.Context, events []relay.Event) (out []relay.Event, failed []relay.Position, _ error) {
	for _, ev := range events {
		switch string(ev.Text) {
		case "a":
			failed = append(failed, ev.Position)
		case "b":
		default:
			first, second := ev, ev
			second.Position.Part, second.Text = 1, append(slices.Clone(ev.Text), "+"...)
			out = append(out, first, second)
		}
	}
	return out, failed, nil
}

// incomplete is a backplane with a broken link.
type incomplete struct{}

func (incomplete) Interest([]string, []string) func(context.Context) { return nil }
func (incomplete) Published(context.Context, relay.Message) error    { return nil }
func (incomplete) Incomplete(group string) bool                      { return group == "h-1" }

// Each reason for which a client cannot resume.
func TestReasonsWhyClientsCannotResume(t *testing.T) {
	unknown := relay.Position{Micros: 1, Mark: 1}
	for name, c := range map[string]struct {
		set    func(h *hub.Hub)
		after  func(had []relay.Position) []relay.Position
		reason relay.NotRecovered
	}{
		"unknown position": {
			after:  func([]relay.Position) []relay.Position { return []relay.Position{unknown} },
			reason: relay.NotRecoveredUnknown,
		},
		"unreadable token": {
			after: func([]relay.Position) []relay.Position { return []relay.Position{{}} }, reason: relay.NotRecoveredUnknown,
		},
		"gap": {
			set: func(h *hub.Hub) { h.Lost(relay.Loss{Cause: relay.LossFailover, All: true}) }, reason: relay.NotRecoveredGap,
		},
		"event without position": {
			set:    func(h *hub.Hub) { h.Forward([]relay.Event{{Group: "h-1", Text: []byte("emitted")}}) },
			reason: relay.NotRecoveredGap,
		},
		"no history":    {set: func(h *hub.Hub) { h.SetHistory(nil) }, reason: relay.NotRecoveredOff},
		"no replayer":   {set: func(h *hub.Hub) { h.SetInterceptor(filter{}) }, reason: relay.NotRecoveredUnavailable},
		"failed replay": {set: func(h *hub.Hub) { h.SetInterceptor(failingReplay{}) }, reason: relay.NotRecoveredUnavailable},
		"peers":         {set: func(h *hub.Hub) { h.SetBackplane(incomplete{}) }, reason: relay.NotRecoveredPeers},
	} {
		t.Run(name, func(t *testing.T) {
			h, emitter, _ := historyHub(t)
			had := positionsOf(t, h, emitter, "h-1", "a", "b")
			if c.set != nil {
				c.set(h)
			}
			had = had[:2]
			if c.after != nil {
				had = c.after(had)
			}
			session, s := openWithPositions(h)
			follow(t, session, resumeAfter("h-1", had...))
			expectFrames(t, s, "current", "subscribed h-1 "+string(c.reason)+" 0")
			live := relay.Position{Micros: time.Now().UnixMicro(), Mark: 2}
			h.Forward([]relay.Event{{Group: "h-1", Text: []byte("live"), Position: live}})
			testkit.Eventually(t, "the live event", func() bool {
				return slices.Contains(shown(s.got()), "event h-1 live")
			})
			if st := h.ResumeStats(); st.NotRecovered[c.reason] != 1 || st.Recovered != 0 {
				t.Errorf("%+v", st)
			}
			if g, ok := h.GroupResumes("h-1"); !ok || g.NotRecovered != 1 || g.LastReason != c.reason {
				t.Errorf("%+v", g)
			}
		})
	}
}

// A replay has the plugins' texts, and says which events a plugin failed to process.
func TestReplayGoesThroughPlugins(t *testing.T) {
	h, emitter, _ := historyHub(t)
	had := positionsOf(t, h, emitter, "h-1", "a", "b", "c")
	h.SetInterceptor(withholding{})
	session, s := openWithPositions(h)
	follow(t, session, resumeAfter("h-1", had[0]))
	expectFrames(t, s, "current", "subscribed h-1 ok 2", "withheld h-1 "+had[1].String(), "event h-1 c", "event h-1 c+")
	got := tokensOf(t, s.got())
	session.Close()
	session, s = openWithPositions(h)
	follow(t, session, resumeAfter("h-1", got[0])) // without the second part
	expectFrames(t, s, "current", "subscribed h-1 ok 1", "event h-1 c+")
}

// Without a protocol that has positions, a client cannot opt in.
func TestOptInNeedsProtocol(t *testing.T) {
	h, emitter := newHub(t)
	h.SetProtocol(changeText{})
	session, s := openWithPositions(h)
	subscribe(t, h, session, "g")
	publish(t, emitter, "g", "plain")
	testkit.Eventually(t, "the event", func() bool { return len(s.got()) == 1 })
	if got := s.got(); got[0] != "plain" {
		t.Errorf("got %q", got)
	}
}
