package backplane_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// sharedHistory is a history that nodes share: the first node that records an event stores it, and all give it the same
// position.
type sharedHistory struct {
	mu     sync.Mutex
	groups map[string][]relay.Event
	exact  bool          // a page begins as late as it may
	most   int           // events of each group that are kept; 0: all
	marks  int           // in groups
	slow   time.Duration // of a read

	gapsOfAll atomic.Int64 // that were marked
}

func (h *sharedHistory) Limits(string) (relay.HistoryLimits, bool) {
	return relay.DefaultHistoryLimits, true
}

func (h *sharedHistory) Record(events []relay.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range events {
		ev := &events[i]
		if !ev.Position.IsZero() {
			h.recordForeign(*ev)
			continue
		}
		mark := fnv.New64()
		_, _ = mark.Write(ev.Text)
		list := h.groups[ev.Group]
		n := slices.IndexFunc(list, func(other relay.Event) bool { return other.Position.Mark == mark.Sum64() })
		if n < 0 {
			kept := *ev
			kept.Position = relay.Position{Micros: time.Now().UnixMicro(), Mark: mark.Sum64()}
			kept.Source, kept.Trace = relay.FromHistory, nil
			list, n = append(list, kept), len(list)
			h.groups[ev.Group] = list
		}
		ev.Position = list[n].Position
		h.trim(ev.Group)
	}
}

// recordForeign stores an event of a peer. h.mu is held.
func (h *sharedHistory) recordForeign(ev relay.Event) {
	same := func(other relay.Event) bool { return other.Position == ev.Position }
	if !slices.ContainsFunc(h.groups[ev.Group], same) {
		ev.Foreign, ev.Source, ev.Trace = true, relay.FromHistory, nil
		h.groups[ev.Group] = append(h.groups[ev.Group], ev)
		h.trim(ev.Group)
	}
}

// keep makes the history keep a number of events of each group.
func (h *sharedHistory) keep(most int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.most = most
}

// forgetMarks makes the count of marks begin again.
func (h *sharedHistory) forgetMarks() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.marks = 0
}

// trim removes the events of a group that are too many. h.mu is held.
func (h *sharedHistory) trim(group string) {
	if list := h.groups[group]; h.most > 0 && len(list) > h.most {
		h.groups[group] = list[len(list)-h.most:]
	}
}

func (h *sharedHistory) Joined([]string)             {}
func (h *sharedHistory) Left([]string)               {}
func (h *sharedHistory) Close(context.Context) error { return nil }

func (h *sharedHistory) MarkGap(l relay.Loss) relay.Position {
	if l.All {
		h.gapsOfAll.Add(1)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.marks += len(l.Groups)
	return relay.Position{Micros: 1}
}

func (h *sharedHistory) Read(ctx context.Context, queries []relay.HistoryQuery) []relay.HistoryPage {
	pages := make([]relay.HistoryPage, len(queries))
	if h.slow > 0 {
		select {
		case <-time.After(h.slow):
		case <-ctx.Done():
			for i := range pages {
				pages[i].Err = relay.NotRecoveredUnavailable
			}
			return pages
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, q := range queries {
		list := h.groups[q.Group]
		pages[i].Resumable = make([]error, len(q.After))
		for n, after := range q.After {
			at := slices.IndexFunc(list, func(ev relay.Event) bool { return ev.Position == after })
			if at < 0 {
				pages[i].Resumable[n] = relay.NotRecoveredUnknown
			}
			if h.exact {
				isOld := func(ev relay.Event) bool { return ev.Position.Micros < after.Micros-relay.HistorySlack }
				pages[i].Events = slices.DeleteFunc(slices.Clone(list), isOld)
			}
		}
		if !h.exact || q.Latest > 0 {
			pages[i].Events = slices.Clone(list) // far more than the slack
		}
	}
	return pages
}

// The source of a layer is replaced by another node of the layer, or restarts. Both read what is missing from the
// history that the nodes share.
func TestAnotherSourceFillsTheGap(t *testing.T) {
	leakCheck(t)
	layer, history := memory.NewLayer(), &sharedHistory{groups: map[string][]relay.Event{}}
	x, y, z := newNode(t, layer), newNode(t, layer), newNode(t, memory.NewLayer()).remembering()
	links := map[string]*testkit.Proxy{}
	var urls []string
	for _, n := range []*node{x, y} {
		n.hub.SetHistory(history)
		n.client("job-1", "job-2")
		p := testkit.StartProxy(t, n.server.Listener.Addr().String())
		links["http://"+p.Addr] = p
		urls = append(urls, "http://"+p.Addr)
		n.start(swift)
	}
	z.start(swift, peersOf(urls...))
	z.awaitSources(1)
	z.awaitComplete()
	c := z.client("job-1", "job-2")
	next := map[string]int{}
	emit := func(count int) {
		t.Helper()
		for range count {
			for _, g := range []string{"job-1", "job-2"} {
				x.emit(g, fmt.Sprint(g, " ", next[g]))
				next[g]++
			}
		}
	}
	emit(50)
	c.inOrder(t, next)
	for range 5 {
		cut := ""
		for _, p := range z.plane.Peers() {
			if p.Source {
				cut = p.URL
			}
		}
		links[cut].Stall() // the events on the link are lost
		emit(20)
		links[cut].Cut()
		emit(20)
		testkit.Eventually(t, "the other source", func() error {
			if z.plane.Incomplete("job-1") {
				return fmt.Errorf("incomplete")
			}
			return nil
		})
		emit(20)
		c.inOrder(t, next)
		links[cut].Resume()
		testkit.Eventually(t, "both links", func() error {
			for _, p := range z.plane.Peers() {
				if p.State != backplane.StateConnected {
					return fmt.Errorf("%+v", p)
				}
			}
			return nil
		})
	}
	for _, n := range []*node{x, y} { // one after the other restarts
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_ = n.plane.Close(ctx)
		cancel()
		emit(20)
		n.start(swift)
		emit(20)
		c.inOrder(t, next)
	}
	if n := z.lost(relay.LossPeerLink) + z.lost(relay.LossPeer); n != 0 {
		_, last := z.hub.Losses()
		t.Errorf("%d losses are reported, the last one is %+v", n, last)
	}
}

// A node restarts with an empty history, or none: the gap is reported.
func TestGapThatCannotBeFilled(t *testing.T) {
	leakCheck(t)
	a, b := newNode(t, memory.NewLayer()).remembering(), newNode(t, memory.NewLayer()).remembering()
	link := linked(t, a, b)
	c := b.client("job-1", "other-1")
	a.emit("job-1", "job-1 0")
	a.emit("other-1", "other-1 0")
	c.inOrder(t, map[string]int{"job-1": 1, "other-1": 1})
	link.Stall()
	_ = a.plane.Close(t.Context())
	link.Cut()
	a.remembering()
	a.start(swift)
	link.Resume()
	testkit.Eventually(t, "the loss", func() error {
		if _, last := b.hub.Losses(); last.Text != "events of 2 groups may have been lost (peer_link)" {
			return fmt.Errorf("%+v", last)
		}
		return nil
	})
	b.awaitComplete()
}

// A queue overflows while the link is down. A history in memory has the dropped events: a group with few events gets
// all of them, once and in order. The events of another one are too many to be fetched: they count as lost.
func TestDroppedEventsComeFromTheHistory(t *testing.T) {
	leakCheck(t)
	a, b := newNode(t, memory.NewLayer()).remembering(), newNode(t, memory.NewLayer()).remembering()
	link := linked(t, a, b, func(s *backplane.Settings) { s.QueueBytes = 100_000 })
	c := b.client("job-1", "job-2")
	a.emit("job-1", "job-1 0")
	c.inOrder(t, map[string]int{"job-1": 1})
	link.Stall()
	link.Cut()
	testkit.Eventually(t, "the end of the link", func() error {
		if peers := a.plane.Peers(); len(peers) > 0 {
			return fmt.Errorf("%+v", peers)
		}
		return nil
	})
	const few, many = 20, 2000
	for n := range few {
		a.emit("job-1", fmt.Sprint("job-1 ", n+1))
	}
	for n := range many {
		a.emit("job-2", fmt.Sprint("job-2 ", n))
	}
	link.Resume()
	testkit.Eventually(t, "the events", func() error {
		lost := a.plane.Stats().Dropped
		count := int(lost["queue_full"] + lost["link_lost"])
		c.mu.Lock()
		defer c.mu.Unlock()
		if got := len(c.texts); count == 0 || got+count != 1+few+many {
			return fmt.Errorf("%d events arrived, %d are lost: %v", got, count, lost)
		}
		next := 0
		for _, text := range c.texts {
			if text == fmt.Sprint("job-1 ", next) {
				next++
			}
		}
		if next != few+1 {
			return fmt.Errorf("%d events of the group with few arrived in order", next)
		}
		return nil
	})
}
