package backplane

import (
	"context"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// refillWait bounds the time for which the events of a group are held for a read of the history.
	refillWait = 10 * time.Second
	// refillGroups bounds the groups of one read, and refillReads the concurrent reads for all peers.
	refillGroups, refillReads = 100, 4
	// maxAnswers bounds the answers of a peer whose events have not arrived.
	maxAnswers = maxPeerGroups / refillGroups
)

// refill is a group whose earlier events are read from the history for a relay. Live events wait behind them.
type refill struct {
	group string
	after relay.Position // the last one that the relay has
	held  []*event
	bytes int
}

// beginRefills holds the live events of groups until finishRefills. after has the last positions that the relay has.
func (s *stream) beginRefills(after map[string]string) (list []*refill) {
	s.holdMu.Lock()
	defer s.holdMu.Unlock()
	for group, token := range after {
		if len(list) == maxPeerGroups {
			break
		}
		at, err := relay.ParsePosition(token)
		if err != nil || !relay.ValidGroup(group) {
			at = relay.Position{} // answered as missing
		}
		r := &refill{group: group, after: at.Entry()}
		if before := s.refills[group]; before != nil {
			r.held, r.bytes = before.held, before.bytes
		}
		if s.refills == nil {
			s.refills = map[string]*refill{}
		}
		s.refills[group] = r
		list = append(list, r)
	}
	s.refilling.Store(len(s.refills) > 0)
	return list
}

// hold keeps a live event behind earlier events of its group, and reports whether it did.
func (s *stream) hold(e *event) bool {
	s.holdMu.Lock()
	defer s.holdMu.Unlock()
	r := s.refills[e.group]
	if r == nil {
		return false
	}
	if r.bytes += e.cost(); r.bytes > s.queue.limit/8 { // go on without the earlier events
		s.endRefill(r, nil)
		return false
	}
	r.held = append(r.held, e)
	return true
}

// endRefill queues the events of a page and then the live events that were held. It reports whether the refill was
// current. s.holdMu is held.
func (s *stream) endRefill(r *refill, page []*event) bool {
	if s.refills[r.group] != r {
		return false
	}
	delete(s.refills, r.group)
	read := make(map[relay.Position]bool, len(page))
	for _, e := range page {
		read[e.position] = true
		s.enqueue(e)
	}
	for _, e := range r.held {
		if e.position.IsZero() || !read[e.position] {
			s.enqueue(e)
		}
	}
	r.held = nil
	s.refilling.Store(len(s.refills) > 0) // last: from here on, push no longer waits for holdMu
	return true
}

// finishRefills reads the events of groups from the history and queues them for the link's peer, once this node is a
// member of the groups. The peer is told which groups are complete.
func (s *stream) finishRefills(ctx context.Context, l *link, list []*refill, wait func(context.Context)) {
	wait(ctx)
	select {
	case s.b.refillSlots <- struct{}{}:
		defer func() { <-s.b.refillSlots }()
	case <-ctx.Done():
	}
	for len(list) > 0 {
		some := list[:min(len(list), refillGroups)]
		list = list[len(some):]
		m := message{Type: "refilled"}
		for n, page := range s.readPages(ctx, some) {
			r := some[n]
			complete := page != nil && s.awaitRoom(ctx, page)
			if !complete {
				page = nil
			}
			s.holdMu.Lock()
			current := s.endRefill(r, page)
			s.holdMu.Unlock()
			if m.Groups = append(m.Groups, r.group); !complete || !current {
				m.Missing = append(m.Missing, r.group)
			}
		}
		m.Until = s.queue.lastNumber()
		if s.has(l) {
			l.sendMessage(m)
		}
	}
}

// readPages returns the events behind the last positions that the relay has; nil for a group whose events are not
// complete.
func (s *stream) readPages(ctx context.Context, list []*refill) [][]*event {
	pages := make([][]*event, len(list))
	history := s.b.history()
	if history == nil || ctx.Err() != nil {
		return pages
	}
	queries := make([]relay.HistoryQuery, len(list))
	for n, r := range list {
		queries[n] = relay.HistoryQuery{Group: r.group, After: []relay.Position{r.after}}
	}
	for n, page := range history.Read(ctx, queries) {
		if n < len(pages) && page.Err == nil && len(page.Resumable) == 1 && page.Resumable[0] == nil {
			pages[n] = ownEvents(page.Events, list[n].after, s.b.travels)
		}
	}
	return pages
}

// ownEvents returns the events of this node's layer among events of the history, without the one at a position. It
// returns nil if it cannot tell them from events that do not travel.
func ownEvents(events []relay.Event, after relay.Position, travels func(*relay.Event) bool) []*event {
	own := make([]*event, 0, len(events))
	for n := range events {
		ev := &events[n]
		switch {
		case ev.Foreign || ev.Position.Entry() == after:
		case !travels(ev):
			return nil
		default:
			e := newEvent(ev)
			e.refill = true
			own = append(own, e)
		}
	}
	return own
}

// awaitRoom waits until a page fits into the queue with room to spare.
func (s *stream) awaitRoom(ctx context.Context, page []*event) bool {
	size := 0
	for _, e := range page {
		size += e.cost()
	}
	for {
		_, queued, _ := s.queue.load()
		switch {
		case size > s.queue.limit/2:
			return false
		case queued+size <= s.queue.limit/2:
			return true
		case !sleep(ctx, 5*time.Millisecond):
			return false
		}
	}
}

// refilled is the peer's answer about groups that it was asked to refill, which holds once the event until has arrived.
type refilled struct {
	groups, missing []string
	until           uint64
}

// receiveRefilled records the answer about groups.
func (l *link) receiveRefilled(m message) {
	i := &l.b.interest
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(m.Groups) > refillGroups || len(m.Missing) > len(m.Groups) || len(l.peer.answers) >= maxAnswers {
		l.fault(faultLimit)
		return
	}
	l.peer.answers = append(l.peer.answers, refilled{m.Groups, m.Missing, m.Until})
	l.closeGaps()
}

// takeRefilled applies the answers whose events have arrived, and reports whether there are answers about all groups.
// interest.mu is held.
func (l *link) takeRefilled() bool {
	p := &l.peer
	for len(p.answers) > 0 && l.in.delivered.Load() >= p.answers[0].until {
		a := p.answers[0]
		p.answers = p.answers[1:]
		for _, group := range a.groups {
			if _, ok := p.refilling[group]; ok {
				delete(p.refilling, group)
				p.filled[group] = true
			}
		}
		for _, group := range a.missing {
			delete(p.filled, group)
		}
	}
	return len(p.refilling) == 0
}
