package relaytest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Histories makes the nodes for [RunHistory].
type Histories struct {
	// Start returns a node with limits for all groups whose names begin with "job_". No earlier node of another Start
	// shares the history. The test ends the node.
	Start func(t testing.TB, limits relay.HistoryLimits) *HistoryNode
	// Peer returns another node of the same channel layer. nil: no other node shares a history.
	Peer func(t testing.TB, of *HistoryNode) *HistoryNode
	// Excess is the number of events above the bounds that the history may keep.
	Excess int
}

// HistoryNode is a node with a history.
type HistoryNode struct {
	relay.History
	// Join makes the node a member of the groups, and Leave ends the membership. nil: Joined and Left of the history.
	Join, Leave func(groups ...string)
	// Publish publishes an event of the node's channel layer, and returns once the members have recorded the event: its
	// position on this node, or zero if the node is no member of the group.
	Publish func(t testing.TB, group, text string) relay.Position
	// PublishMessage is Publish for a message of any type. nil: the tests of types are left out.
	PublishMessage func(t testing.TB, m relay.Message) relay.Position
	// Advance moves the clock of the history, and has it do what is due. nil: the clock cannot be moved, and the tests
	// of ages are left out.
	Advance func(d time.Duration)
}

// RunHistory tests that a history behaves as the engine expects.
func RunHistory(t *testing.T, h Histories) {
	for _, c := range historyTests {
		t.Run(c.name, func(t *testing.T) {
			limits := c.limits
			if limits == (relay.HistoryLimits{}) {
				limits = relay.DefaultHistoryLimits
			}
			n := startHistory(t, h, limits)
			if c.clock && n.Advance == nil {
				t.Log("the clock cannot be moved")
				return
			}
			if c.shared && h.Peer == nil {
				t.Log("no other node shares the history")
				return
			}
			c.run(&historyTest{T: t, Histories: h, n: n})
		})
	}
}

// historyCase is a test of the suite.
type historyCase struct {
	name          string
	limits        relay.HistoryLimits
	clock, shared bool // needed
	run           func(t *historyTest)
}

var historyTests = slices.Concat(resumeTests, gapTests, boundTests, sharedTests)

// historyTest is a test in progress.
type historyTest struct {
	*testing.T
	Histories
	n *HistoryNode
}

func startHistory(t testing.TB, h Histories, limits relay.HistoryLimits) *HistoryNode {
	n := h.Start(t, limits)
	n.fill(t)
	return n
}

// peer returns another node that shares the history of the first.
func (t *historyTest) peer() *HistoryNode {
	n := t.Peer(t, t.n)
	n.fill(t)
	return n
}

// fill sets the functions that a fixture has left out, and closes the history after the test.
func (n *HistoryNode) fill(t testing.TB) {
	if n.Join == nil {
		n.Join = func(groups ...string) { n.Joined(groups) }
	}
	if n.Leave == nil {
		n.Leave = func(groups ...string) { n.Left(groups) }
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = n.Close(ctx)
	})
}

// readTimeout bounds a Read.
const readTimeout = 30 * time.Second

// read answers a query.
func (n *HistoryNode) read(t testing.TB, q relay.HistoryQuery) relay.HistoryPage {
	t.Helper()
	return n.readAll(t, q)[0]
}

// readAll answers queries, and checks what holds for each page.
func (n *HistoryNode) readAll(t testing.TB, queries ...relay.HistoryQuery) []relay.HistoryPage {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	pages := n.Read(ctx, queries)
	if len(pages) != len(queries) {
		t.Fatalf("%d pages for %d queries", len(pages), len(queries))
	}
	for i := range pages {
		checkPage(t, queries[i], pages[i])
	}
	return pages
}

func checkPage(t testing.TB, q relay.HistoryQuery, p relay.HistoryPage) {
	t.Helper()
	if p.Err != nil {
		if !errors.Is(p.Err, relay.ErrNotRecovered) {
			t.Errorf("%s: error %v has no code for clients", q.Group, p.Err)
		}
		return
	}
	if len(p.Resumable) != len(q.After) {
		t.Fatalf("%s: %d answers for %d positions", q.Group, len(p.Resumable), len(q.After))
	}
	for _, err := range p.Resumable {
		if err != nil && !errors.Is(err, relay.ErrNotRecovered) {
			t.Errorf("%s: reason %v has no code for clients", q.Group, err)
		}
	}
	if p.First != nil && len(p.First) != len(q.After) {
		t.Fatalf("%s: %d beginnings for %d positions", q.Group, len(p.First), len(q.After))
	}
	for i, first := range p.First {
		if p.Resumable[i] != nil {
			continue
		}
		if first < 0 || first > len(p.Events) {
			t.Fatalf("%s: a replay begins at %d of %d events", q.Group, first, len(p.Events))
		}
		if first > 0 && p.Events[first-1].Position.Entry().Compare(q.After[i]) > 0 {
			t.Errorf("%s: a replay behind %v leaves an event at %v out", q.Group, q.After[i], p.Events[first-1].Position)
		}
	}
	if p.Head.IsZero() {
		t.Errorf("%s: no head", q.Group)
	}
	for i, ev := range p.Events {
		switch {
		case ev.Group != q.Group || ev.Source != relay.FromHistory || ev.Position.IsZero() || ev.Control != nil:
			t.Errorf("%s: event %d is %+v", q.Group, i, ev)
		case i > 0 && ev.Position.Compare(p.Events[i-1].Position) <= 0:
			t.Errorf("%s: event %d at %v is not behind %v", q.Group, i, ev.Position, p.Events[i-1].Position)
		case ev.Position.Entry().Compare(p.Head) > 0:
			t.Errorf("%s: event %d at %v is behind the head, %v", q.Group, i, ev.Position, p.Head)
		}
	}
}

// publish publishes texts, and returns their positions.
func (n *HistoryNode) publish(t testing.TB, group string, texts ...string) (at []relay.Position) {
	t.Helper()
	for _, text := range texts {
		at = append(at, n.Publish(t, group, text))
	}
	return at
}

// missed returns the texts of the events behind a position, without the earlier ones that a page may have.
func missed(p relay.HistoryPage, after relay.Position) (list []string) {
	for _, ev := range p.Events {
		if ev.Position.Entry().Compare(after) > 0 {
			list = append(list, string(ev.Text))
		}
	}
	return list
}

// expectMissed resumes behind a position, and compares the missed events.
func (n *HistoryNode) expectMissed(t testing.TB, group string, after relay.Position, want ...string) {
	t.Helper()
	p := n.read(t, relay.HistoryQuery{Group: group, After: []relay.Position{after}})
	switch {
	case p.Err != nil:
		t.Errorf("%s: %v", group, p.Err)
	case p.Resumable[0] != nil:
		t.Errorf("%s: cannot resume behind %v: %v", group, after, p.Resumable[0])
	case !slices.Equal(missed(p, after), want):
		t.Errorf("%s: missed %q, want %q", group, missed(p, after), want)
	}
}

// expectBehindGap resumes behind a gap, and compares the last events. Earlier ones may come again: the node that has
// marked the gap and the history may have different clocks.
func (n *HistoryNode) expectBehindGap(t testing.TB, group string, gap relay.Position, want ...string) {
	t.Helper()
	p := n.read(t, relay.HistoryQuery{Group: group, After: []relay.Position{gap}})
	switch {
	case p.Err != nil:
		t.Errorf("%s: %v", group, p.Err)
	case p.Resumable[0] != nil:
		t.Errorf("%s: cannot resume behind the gap at %v: %v", group, gap, p.Resumable[0])
	case !endsWith(p, want):
		t.Errorf("%s: behind the gap: %q, want %q at the end", group, missed(p, relay.Position{}), want)
	}
}

// expectReason resumes behind a position, and compares the reason for which a client cannot. ErrNotRecovered is any.
func (n *HistoryNode) expectReason(t testing.TB, group string, after relay.Position, want relay.NotRecovered) {
	t.Helper()
	p := n.read(t, relay.HistoryQuery{Group: group, After: []relay.Position{after}})
	if p.Err == nil && !errors.Is(p.Resumable[0], want) {
		t.Errorf("%s: resuming behind %v: %v, want %v", group, after, p.Resumable[0], want)
	}
}

// numbers returns n texts, beginning with first.
func numbers(first, n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf(`{"n": %d}`, first+i))
	}
	return list
}

// readsAcrossGaps reads from events on, behind which a gap is.
func readsAcrossGaps(t *historyTest) {
	t.n.Join("job_1")
	at := t.n.publish(t, "job_1", "a", "b")
	t.n.MarkGap(relay.Loss{Cause: relay.LossMailboxFull, Groups: []string{"job_1"}})
	t.n.publish(t, "job_1", "c")
	t.n.expectReason(t, "job_1", at[0], relay.NotRecoveredGap)
	for i, position := range at {
		p := t.n.read(t, relay.HistoryQuery{Group: "job_1", After: []relay.Position{position}, AcrossGaps: true})
		if want := []string{"a", "b", "c"}[i:]; p.Err != nil || p.Resumable[0] != nil || !endsWith(p, want) {
			t.Errorf("from event %d on: %q, want %q: %v, %v", i, missed(p, relay.Position{}), want, p.Err, p.Resumable)
		}
	}
}
