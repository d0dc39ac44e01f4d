package backplane

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// pagesNode is a node whose history has pages by group.
type pagesNode struct {
	relay.Node
	pages map[string]relay.HistoryPage
}

// pagesHistory is the history of a pagesNode.
type pagesHistory struct {
	relay.History
	pages map[string]relay.HistoryPage
}

func (n *pagesNode) History() relay.History { return pagesHistory{pages: n.pages} }

func (h pagesHistory) Read(_ context.Context, queries []relay.HistoryQuery) (pages []relay.HistoryPage) {
	for _, q := range queries {
		pages = append(pages, h.pages[q.Group])
	}
	return pages
}

// Of two groups that are read together, one is given up while its page waits for room, and the peer has acknowledged
// the events of the other one. The link stays until it has the answer about that one.
func TestALinkStaysForAnAnswerAboutARefill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		page := func(group string, size int) relay.HistoryPage {
			ev := relay.Event{Group: group, Text: make([]byte, size), NeedsRelay: true}
			ev.Position = relay.Position{Micros: 2, Mark: 1}
			return relay.HistoryPage{Events: []relay.Event{ev}, Resumable: []error{nil}}
		}
		node := &pagesNode{pages: map[string]relay.HistoryPage{
			"small": page("small", 10), "large": page("large", 3500),
		}}
		l := &link{queue: newQueue(8000), ctx: t.Context()}
		s := &stream{
			b: &Backplane{hub: node, refillSlots: make(chan struct{}, 1)}, queue: newQueue(8000), link: l,
		}
		q := s.queue
		q.base = 1
		q.attach(l.queue, 0, 0, func(uint64, uint64, []*refill) {})
		fill := func(group string, size int) {
			q.push(&event{group: group, text: make([]byte, size), since: time.Now()})
		}
		acknowledge := func() {
			number, events, _ := q.nextNumbered(l.queue, nil, 1<<20, time.Now())
			q.acknowledge(number+uint64(len(events))-1, 0)
		}
		var list []*refill
		for _, group := range []string{"small", "large"} {
			after := relay.Position{Micros: 1, Mark: 1}.String()
			list = append(list, s.beginRefills(map[string]string{group: after})...)
		}
		fill("other", 1000)
		go s.finishRefills(t.Context(), l, list, func(context.Context) {})
		synctest.Wait()
		acknowledge()
		fill("other", 1000)
		fill("large", 1500)
		if len(q.refills) != 0 || len(l.queue.control) != 0 {
			t.Fatalf("%d refills, %q sent; want one refill given up, and no answer", len(q.refills), l.queue.control)
		}
		if !q.isRefilling() {
			t.Error("the link may end before the peer has the answer about the first group")
		}
		acknowledge()
		time.Sleep(time.Second)
		synctest.Wait()
		answered := func(m []byte) bool { return bytes.Contains(m, []byte(`"small"`)) }
		if !slices.ContainsFunc(l.queue.control, answered) {
			t.Errorf("answers %q", l.queue.control)
		}
		acknowledge()
		if q.isRefilling() {
			t.Error("the link stays for ever")
		}
	})
}
