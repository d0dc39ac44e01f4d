package hub_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// marking is a history that records its marks and memberships.
type marking struct {
	mu      sync.Mutex
	marks   []relay.Loss
	members map[string]bool
	limits  func(group string) (relay.HistoryLimits, bool)
}

func newMarking() *marking {
	return &marking{members: map[string]bool{}, limits: func(group string) (relay.HistoryLimits, bool) {
		return relay.HistoryLimits{Count: 10, Bytes: 1000, Age: time.Minute}, strings.HasPrefix(group, "h-")
	}}
}

func (m *marking) Limits(group string) (relay.HistoryLimits, bool) { return m.limits(group) }
func (m *marking) Record([]relay.Event)                            {}
func (m *marking) Close(context.Context) error                     { return nil }

func (m *marking) Joined(groups []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, g := range groups {
		m.members[g] = true
	}
}

func (m *marking) Left(groups []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, g := range groups {
		delete(m.members, g)
	}
}

func (m *marking) Read(_ context.Context, queries []relay.HistoryQuery) []relay.HistoryPage {
	pages := make([]relay.HistoryPage, len(queries))
	for i := range pages {
		pages[i].Head = relay.Position{Micros: 7, Mark: 7}
	}
	return pages
}

func (m *marking) MarkGap(l relay.Loss) relay.Position {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.marks = append(m.marks, l)
	return relay.Position{Micros: 100 + int64(len(m.marks)), Mark: 1}
}

// marked returns the number of marks.
func (m *marking) marked() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.marks)
}

func (m *marking) joined() (groups []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for g := range m.members {
		groups = append(groups, g)
	}
	slices.Sort(groups)
	return groups
}

// interests records what a backplane is told.
type interests struct {
	mu     sync.Mutex
	groups map[string]bool
}

func (b *interests) Interest(joined, left []string) func(context.Context) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, g := range joined {
		b.groups[g] = true
	}
	for _, g := range left {
		delete(b.groups, g)
	}
	return nil
}

func (b *interests) Published(context.Context, relay.Message) error { return nil }

func (b *interests) announced() (groups []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for g := range b.groups {
		groups = append(groups, g)
	}
	slices.Sort(groups)
	return groups
}

// markingHub returns a hub, its layer, history and backplane, in a bubble.
func markingHub(t *testing.T) (*hub.Hub, *gatedBroker, *marking, *interests) {
	h := hub.New(quiet)
	h.SetAuthorizer(relay.Open{}, 0)
	h.SetProtocol(plainTexts{})
	layer, m, peers := newGatedBroker(), newMarking(), &interests{groups: map[string]bool{}}
	close(layer.gate)
	if err := h.SetBroker(t.Context(), layer); err != nil {
		t.Fatal(err)
	}
	h.SetHistory(m)
	h.SetBackplane(peers)
	return h, layer, m, peers
}

func closeHub(t *testing.T, h *hub.Hub) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = h.Close(ctx)
}

// Losses: which mark the history, and what clients that get positions are told.
func TestLossesAsGaps(t *testing.T) {
	p := relay.Position{Micros: 50, Mark: 5}
	for _, c := range []struct {
		name  string
		loss  relay.Loss
		marks int
		want  []string // for the client of h-1
	}{
		{
			"mailbox",
			relay.Loss{Cause: relay.LossMailboxFull, Groups: []string{"h-1"}, Events: 3},
			2,
			[]string{"gap h-1 mailbox_full 3"},
		},
		{
			"several groups",
			relay.Loss{Cause: relay.LossMembership, Groups: []string{"h-1", "h-2"}, Events: 3},
			2,
			[]string{"gap h-1 membership_restored 0"},
		},
		{"all", relay.Loss{Cause: relay.LossFailover, All: true}, 2, []string{"gap h-1 failover 0"}},
		{"peer", relay.Loss{Cause: relay.LossPeer, Groups: []string{"h-1"}, Events: 1}, 2, []string{"gap h-1 peer 1"}},
		{"others", relay.Loss{Cause: relay.LossPeer, Groups: []string{"h-3"}}, 1, nil},
		{"peer's queue", relay.Loss{Cause: relay.LossPeerQueue, Events: 1}, 0, nil},
		{"dead node", relay.Loss{Cause: relay.LossDeadNode, All: true}, 1, nil},
		{
			"slow plugin",
			relay.Loss{Cause: relay.LossPluginSlow, Groups: []string{"h-1"}, Events: 1, Position: p},
			0,
			[]string{"gap h-1 plugin_slow 1"},
		},
		{
			"event of a slow plugin",
			relay.Loss{Cause: relay.LossPluginSlow, Groups: []string{"h-1"}, Events: 2},
			2,
			[]string{"gap h-1 plugin_slow 2"},
		},
		{
			"withheld",
			relay.Loss{Cause: relay.LossPluginWithheld, Groups: []string{"h-1"}, Events: 1, Position: p},
			0,
			[]string{"withheld h-1 " + p.String()},
		},
		{"slow reader", relay.Loss{Cause: relay.LossSlowReader}, 0, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, _, m, _ := markingHub(t)
				defer closeHub(t, h)
				session, s := openWithPositions(h)
				follow(t, session, relay.Groups("h-1")...)
				synctest.Wait()
				h.Deliver([]relay.Event{{Group: "h-1", Text: []byte("a"), Position: relay.Position{Micros: 40, Mark: 4}}})
				synctest.Wait()
				h.Lost(c.loss)
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if got := shown(s.got()[3:]); !slices.Equal(got, c.want) {
					t.Errorf("got %q, want %q", got, c.want)
				}
				if m.marked() != c.marks {
					t.Errorf("%d marks, want %d", m.marked(), c.marks)
				}
				session.Close()
			})
		})
	}
}

// A client whose connection ends after events that followed a loss, and before it was told, must not resume behind the
// loss: the history is marked again behind these events.
func TestHistoryIsMarkedWhenClientsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _, m, _ := markingHub(t)
		defer closeHub(t, h)
		session, s := openWithPositions(h)
		follow(t, session, relay.Groups("h-1")...)
		synctest.Wait()
		for range 2 { // The second loss is told a second after the first.
			h.Lost(relay.Loss{Cause: relay.LossMembership, Groups: []string{"h-1"}})
			synctest.Wait()
		}
		h.Deliver([]relay.Event{{Group: "h-1", Text: []byte("a"), Position: relay.Position{Micros: 40, Mark: 4}}})
		synctest.Wait()
		marks, frames := m.marked(), len(s.got())
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if told := len(s.got()) - frames; told != 1 || m.marked() <= marks {
			t.Errorf("%d frames and %d marks behind the event, want 1 frame and a mark", told, m.marked()-marks)
		}
		session.Close()
	})
}

// A gap without a mark has a position from which a client gets the lost events; losses are told once a second.
func TestGapsAreCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _, _, _ := markingHub(t)
		defer closeHub(t, h)
		session, s := openWithPositions(h)
		follow(t, session, relay.Groups("h-1")...)
		plain, resynced := open(h)
		subscribe(t, h, plain, "h-1")
		h.SetResync("again")
		synctest.Wait()
		at := relay.Position{Micros: 40, Mark: 4}
		h.Deliver([]relay.Event{{Group: "h-1", Text: []byte("a"), Position: at}})
		for range 100 {
			h.Lost(relay.Loss{
				Cause: relay.LossPluginSlow, Groups: []string{"h-1"}, Events: 1, Position: relay.Position{Micros: 50, Mark: 5},
			})
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		got, events := s.got()[3:], 0
		for _, f := range got {
			fields := strings.Fields(f)
			var n int
			if _, err := fmt.Sscan(fields[4], &n); err != nil || fields[2] != at.String() {
				t.Errorf("%q: %v, want position %s", f, err, at)
			}
			events += n
		}
		if len(got) > 2 || events != 100 {
			t.Errorf("%d frames about %d events: %q", len(got), events, got)
		}
		if got := resynced.got(); len(got) < 2 || got[len(got)-1] != "again" {
			t.Errorf("the plain client got %q", got)
		}
		session.Close()
		plain.Close()
	})
}

// An event without a position is a gap for clients that resume, once a second and group.
func TestEventsWithoutPositionMarkHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _, m, _ := markingHub(t)
		defer closeHub(t, h)
		for range 30 {
			h.Forward([]relay.Event{{Group: "h-1", Text: []byte("a")}, {Group: "other-1", Text: []byte("a")}})
			time.Sleep(100 * time.Millisecond)
		}
		if n := m.marked(); n != 3 || m.marks[0].Groups[0] != "h-1" {
			t.Errorf("%d marks in three seconds: %v", n, m.marks)
		}
	})
}

// The membership of a group with history outlives the last client, in the layer and for peers.
func TestMembershipOutlivesLastClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, layer, m, peers := markingHub(t)
		defer closeHub(t, h)
		members := func() int {
			layer.mu.Lock()
			defer layer.mu.Unlock()
			return len(layer.joined)
		}
		session, _ := open(h)
		subscribe(t, h, session, "h-1", "other-1")
		session.Close()
		check := func(when string, groups ...string) {
			t.Helper()
			synctest.Wait()
			if got := m.joined(); !slices.Equal(got, groups) || members() != len(groups) {
				t.Errorf("%s: the history knows %q, the layer %d groups; want %q", when, got, members(), groups)
			}
			if got := peers.announced(); !slices.Equal(got, groups) {
				t.Errorf("%s: peers know %q, want %q", when, got, groups)
			}
		}
		check("after the last client", "h-1")
		if st := h.Stats(); st.Groups != 0 || h.ResumeStats().Lingering != 1 {
			t.Errorf("%d groups, %d linger", st.Groups, h.ResumeStats().Lingering)
		}
		time.Sleep(50 * time.Second)
		session, _ = open(h)
		subscribe(t, h, session, "h-1")
		time.Sleep(50 * time.Second)
		check("while the client is back", "h-1")
		session.Close()
		time.Sleep(59 * time.Second)
		check("before the end", "h-1")
		next := &interests{groups: map[string]bool{}}
		h.SetBackplane(next)
		if got := next.announced(); !slices.Equal(got, []string{"h-1"}) {
			t.Errorf("another backplane knows %q", got)
		}
		h.SetBackplane(peers)
		time.Sleep(2 * time.Second)
		check("after the end")
		session, _ = open(h)
		subscribe(t, h, session, "h-1", "h-2")
		session.Close()
		check("again", "h-1", "h-2")
		other := newMarking()
		other.limits = func(group string) (relay.HistoryLimits, bool) {
			return relay.DefaultHistoryLimits, group == "h-2"
		}
		h.SetHistory(other)
		if got := m.joined(); len(got) != 0 {
			t.Errorf("the former history knows %q", got)
		}
		if got := other.joined(); !slices.Equal(got, []string{"h-2"}) {
			t.Errorf("the history knows %q", got)
		}
		h.SetHistory(nil)
		if members() != 0 {
			t.Errorf("%d memberships without a history", members())
		}
	})
}

// A membership that the layer does not take in time: the client cannot resume.
func TestLateMembershipIsNotRecovered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hub.New(quiet)
		h.SetAuthorizer(relay.Open{}, 0)
		h.SetProtocol(plainTexts{})
		layer := newGatedBroker()
		if err := h.SetBroker(t.Context(), layer); err != nil {
			t.Fatal(err)
		}
		h.SetHistory(newMarking())
		defer closeHub(t, h)
		session, s := openWithPositions(h)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		change, err := session.Subscribe(ctx, []relay.Subscription{resumeAfter("h-1", relay.Position{Micros: 7, Mark: 7})})
		if err == nil {
			t.Error("the subscription was not late")
		}
		session.SendChange(change, func(relay.Change) []byte { return []byte("current") })
		expectFrames(t, s, "current", "subscribed h-1 unavailable 0")
		session.Close()
	})
}

// Events that may still arrive leave no mark: clients that resume later must not be told of a gap that was filled.
func TestPendingLossLeavesNoMark(t *testing.T) {
	h, _ := newHub(t)
	history := newMarking()
	h.SetHistory(history)
	for _, pending := range []bool{true, false} {
		h.Lost(relay.Loss{Cause: relay.LossPeerLink, Groups: []string{"h-1"}, Pending: pending})
		if marked := history.marked() > 0; marked == pending {
			t.Errorf("pending %v: the history is marked: %v", pending, marked)
		}
	}
}
