package backplane

// This file counts events that leave for peers: each once, however often it is sent again.

// countSent records that events of a stream from a number on were sent, and returns the number of those that were not
// sent before.
func (q *queue) countSent(number uint64, events int) (fresh int) {
	if events == 0 {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	before, last := max(q.pace.sent, number-1), number+uint64(events)-1
	q.pace.sent = max(before, last)
	return int(q.pace.sent - before)
}

// countSent is the same for a Python node. Events that were put back into the queue leave before all others.
func (s *backlog) countSent(events []*event) (fresh int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range events {
		if _, again := s.again[e]; !again {
			fresh++
		}
		delete(s.again, e)
	}
	if fresh > 0 {
		s.again = nil
	}
	return fresh
}

// countSent counts events that were written. number is that of the first one in the stream s, if there is a stream.
func (l *link) countSent(s *stream, number uint64, events []*event) {
	fresh := len(events)
	if s != nil {
		fresh = s.queue.countSent(number, fresh)
	} else if b := l.backlog.Load(); b != nil {
		fresh = b.countSent(events)
	}
	l.eventsOut.Add(uint64(fresh))
	l.b.stats.eventsOut.Add(uint64(fresh))
}
