package backplane

import "github.com/edgerelay/edgerelay/relay"

// This file has the part of a queue that holds live events behind a refill. The queue's lock guards the refills, so
// that no event can pass the earlier ones of its group.

// setRefill holds the live events of a group from now on. q.mu is held.
func (q *queue) setRefill(r *refill) {
	if q.refills == nil {
		q.refills = map[string]*refill{}
	}
	q.refills[r.group] = r
}

// isRefilling reports whether the peer waits for a refill that the next link would not begin again, or has not
// acknowledged its events.
func (q *queue) isRefilling() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.reading > 0 || q.count > 0 && q.base <= q.refilled {
		return true
	}
	for _, r := range q.refills {
		if r.hole == nil {
			return true
		}
	}
	return false
}

// addReading counts the reads whose answers the next link would not send.
func (q *queue) addReading(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reading += n
}

// admit adds a live event behind the earlier ones of its group. It returns as append does. q.mu is held.
func (q *queue) admit(e *event) (dropped int, first bool) {
	r := q.refills[e.group]
	if r == nil {
		return q.append(e)
	}
	cost := e.cost()
	if r.bytes+cost <= q.limit/8 && q.heldBytes+cost <= q.limit/2 {
		r.held = append(r.held, e)
		r.bytes += cost
		q.heldBytes += cost
		return 0, false
	}
	dropped, first = q.giveUp([]*refill{r}) // go on without the earlier events
	n, begins := q.append(e)
	return dropped + n, first || begins
}

// giveUp ends refills without the earlier events. The peer learns of that ahead of the events that were held: it must
// not take earlier ones behind them. It returns as append does. q.mu is held.
func (q *queue) giveUp(list []*refill) (dropped int, first bool) {
	m := message{Type: "refilled", Until: q.base + uint64(q.count) - 1}
	for _, r := range list {
		if q.refills[r.group] == r {
			m.Groups = append(m.Groups, r.group)
		}
	}
	if len(m.Groups) == 0 {
		return 0, false
	}
	m.Missing = m.Groups
	if q.answer != nil {
		q.answer(m)
	}
	for _, r := range list {
		if q.refills[r.group] != r {
			continue
		}
		if r.hole != nil {
			q.lose(r.group, r.hole)
		}
		q.noteHole(r.group)
		n, begins := q.endRefill(r, nil)
		dropped, first = dropped+n, first || begins
	}
	return dropped, first
}

// endRefill queues the events of a page and then the live events that were held. It returns as append does. q.mu is
// held, and the refill is current.
func (q *queue) endRefill(r *refill, page []*event) (dropped int, first bool) {
	q.removeRefill(r)
	if len(page) > 0 {
		q.age.extend() // the page takes its time, and the events behind it have waited already
	}
	add := func(e *event) {
		n, begins := q.append(e)
		dropped, first = dropped+n, first || begins
	}
	read := make(map[relay.Position]bool, len(page))
	for _, e := range page {
		read[e.position] = true
		add(e)
	}
	for _, e := range r.held {
		if e.position.IsZero() || !read[e.position] {
			add(e)
		}
	}
	r.held = nil
	return dropped, first
}

// removeRefill ends the holding of a group's events. q.mu is held.
func (q *queue) removeRefill(r *refill) {
	delete(q.refills, r.group)
	q.heldBytes -= r.bytes
}

// giveUp ends refills without the earlier events.
func (s *stream) giveUp(list []*refill) {
	q := s.queue
	q.mu.Lock()
	dropped, first := q.giveUp(list)
	q.mu.Unlock()
	s.countDropped(dropped, first)
}

// endRefill queues a page and the events that were held behind it. It reports whether the refill was current.
func (s *stream) endRefill(r *refill, page []*event) bool {
	q := s.queue
	q.mu.Lock()
	current := q.refills[r.group] == r
	var dropped int
	var first bool
	switch {
	case !current:
	case r.lacks(page):
		current = false
		dropped, first = q.giveUp([]*refill{r})
	default:
		dropped, first = q.endRefill(r, page)
	}
	q.mu.Unlock()
	s.countDropped(dropped, first)
	return current
}
