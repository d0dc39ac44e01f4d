package backplane

import (
	"context"
	"slices"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// refillWait bounds the time for which the events of a group are held for a read of the history.
	refillWait = 10 * time.Second
	// refillGroups bounds the groups of one read, and refillReads the concurrent reads for all peers.
	refillGroups, refillReads = 100, 4
	// maxAnswers bounds the answers of a peer whose events have not arrived. A refill that is given up has one of its
	// own.
	maxAnswers = maxPeerGroups / refillGroups
)

// refill is a group whose earlier events are read from the history for a relay. Live events wait behind them.
type refill struct {
	group string
	after relay.Position // the last one that the relay has
	held  []*event
	bytes int // of live events in held
	// hole has the dropped events that are fetched for a stream that continues; else nil. Then after is the first of
	// them, and awaited is the number of events that the history must have from there on.
	hole    *missed
	awaited int
}

// beginRefills holds the live events of groups until finishRefills. after has the last positions that the relay has.
func (s *stream) beginRefills(after map[string]string) (list []*refill) {
	q := s.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	for group, token := range after {
		if len(list) == maxPeerGroups {
			break
		}
		at, err := relay.ParsePosition(token)
		if err != nil || !relay.ValidGroup(group) {
			at = relay.Position{} // answered as missing
		}
		r := &refill{group: group, after: at.Entry()}
		if before := q.refills[group]; before != nil {
			r.held, r.bytes = before.held, before.bytes
		}
		q.setRefill(r)
		list = append(list, r)
	}
	return list
}

// finishRefills reads the events of groups from the history and queues them for the link's peer, once this node is a
// member of the groups. The peer is told which groups are complete.
func (s *stream) finishRefills(ctx context.Context, l *link, list []*refill, wait func(context.Context)) {
	if list[0].hole == nil {
		s.queue.addReading(1)
		defer s.queue.addReading(-1)
	}
	wait(ctx)
	select {
	case s.b.refillSlots <- struct{}{}:
		defer func() { <-s.b.refillSlots }()
	case <-ctx.Done():
	}
	for some := range slices.Chunk(list, refillGroups) {
		pages := s.readPages(ctx, some)
		if some[0].hole != nil && l.ctx.Err() != nil {
			return // the next link fetches the events
		}
		var missing []*refill
		for n, page := range pages {
			if page == nil {
				missing = append(missing, some[n])
			}
		}
		s.giveUp(missing)
		m, fetched := message{Type: "refilled"}, 0
		for n, page := range pages {
			r := some[n]
			switch {
			case page == nil:
			case !s.awaitRoom(ctx, page):
				if r.hole != nil && l.ctx.Err() != nil {
					return
				}
				s.giveUp(some[n : n+1])
			case s.endRefill(r, page):
				m.Groups = append(m.Groups, r.group)
				fetched += r.hole.count()
			}
		}
		if fetched > 0 {
			s.b.log.Info("dropped events fetched from the history", "peer", l.String(), "count", fetched)
		}
		m.Until = s.queue.noteRefilled(some[0].hole == nil && len(m.Groups) > 0)
		if len(m.Groups) > 0 && s.has(l) {
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
		queries[n] = relay.HistoryQuery{
			Group: r.group, After: []relay.Position{r.after}, AcrossGaps: r.hole != nil, // gaps concern other events
		}
	}
	for n, page := range history.Read(ctx, queries) {
		if n < len(pages) && page.Err == nil && len(page.Resumable) == 1 && page.Resumable[0] == nil {
			pages[n] = s.ownEvents(page.Events, list[n])
		}
	}
	return pages
}

// ownEvents returns the events of this node's layer that the relay lacks among events of the history. It returns nil if
// it cannot tell them from events that do not travel, or if dropped events are not among them.
func (s *stream) ownEvents(events []relay.Event, r *refill) []*event {
	own := make([]*event, 0, len(events))
	for n := range events {
		ev := &events[n]
		switch {
		case ev.Foreign || r.has(ev.Position.Entry()):
		case !s.b.travels(ev):
			return nil
		case ev.Type != "" && !s.types:
		default:
			e := newEvent(ev)
			e.refill = true
			own = append(own, e)
		}
	}
	if r.hole != nil && !r.isComplete(own) {
		return nil
	}
	return own
}

// has reports whether the relay has the event at a position of the group's history.
func (r *refill) has(at relay.Position) bool {
	if r.hole != nil {
		return at.Compare(r.after) < 0
	}
	return at == r.after
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
	if r := l.recent.Load(); r != nil && len(m.Missing) > 0 {
		r.noteHoles(m.Missing)
	}
	for _, group := range m.Missing {
		if _, ok := l.peer.refilling[group]; ok && l.peer.continued {
			l.jumped.Store(true) // the peer reports how many events are lost
		}
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
				p.filled[group] = !p.continued // otherwise the peer has fetched what it had dropped, and no more
			}
		}
		for _, group := range a.missing {
			delete(p.filled, group)
		}
	}
	return len(p.refilling) == 0
}
