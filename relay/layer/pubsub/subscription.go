package pubsub

import (
	"context"
	"time"

	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

// subscription is one group. Commands for it are answered in their order.
type subscription struct {
	group, channel string
	wanted         bool
	asked          bool      // the last command sent was to subscribe
	pending        int       // commands not answered yet
	since          time.Time // when the last command was sent
	placed         bool      // subscribed, and Redis has said so
	missing        bool      // it was, before the connection broke
	late           bool      // a client was answered before it was placed
	waiting        []chan struct{}
}

func (s *subscriber) join(groups []string) (waiting []<-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range groups {
		channel := s.layer.channel(g)
		sub := s.groups[channel]
		if sub == nil {
			sub = &subscription{group: g, channel: channel}
			s.groups[channel] = sub
		}
		sub.wanted = true
		if !sub.placed || !sub.asked {
			done := make(chan struct{})
			sub.waiting = append(sub.waiting, done)
			waiting = append(waiting, done)
			s.dirty = append(s.dirty, sub)
		}
	}
	s.wake()
	return waiting
}

// late notes that clients have been answered although groups are not subscribed yet.
func (s *subscriber) late(groups []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range groups {
		if sub := s.groups[s.layer.channel(g)]; sub != nil && !sub.placed && !sub.missing {
			sub.late = true
		}
	}
}

func (s *subscriber) leave(groups []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range groups {
		if sub := s.groups[s.layer.channel(g)]; sub != nil {
			s.unwant(sub)
		}
	}
	s.wake()
}

// unwant ends a subscription. s.mu is held.
func (s *subscriber) unwant(sub *subscription) {
	sub.wanted = false
	s.found(sub)
	if s.conn == nil {
		s.forget(sub)
		return
	}
	s.dirty = append(s.dirty, sub)
}

// leaveAll ends all subscriptions, and waits until Redis has said so: what was sent before has been delivered then.
func (s *subscriber) leaveAll(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	for _, sub := range s.groups {
		s.unwant(sub)
	}
	s.mu.Unlock()
	s.wake()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		left := len(s.groups)
		s.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// commands are the next that bring Redis in line, for commandSize groups.
func (s *subscriber) commands() [][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(s.dirty), commandSize)
	subscribe, unsubscribe := []string{"SUBSCRIBE"}, []string{"UNSUBSCRIBE"}
	for _, sub := range s.dirty[:n] {
		switch {
		case sub.wanted && !sub.asked:
			subscribe = append(subscribe, sub.channel)
		case !sub.wanted && sub.asked:
			unsubscribe = append(unsubscribe, sub.channel)
		default:
			s.settled(sub)
			continue
		}
		sub.asked = sub.wanted
		sub.pending++
		sub.since = time.Now()
	}
	s.dirty = s.dirty[n:]
	var list [][]string
	for _, c := range [][]string{unsubscribe, subscribe} {
		if len(c) > 1 {
			list = append(list, c)
		}
	}
	if list == nil && len(s.dirty) > 0 {
		s.wake()
	}
	return list
}

// settled tells who waits, or forgets a subscription that has ended. s.mu is held.
func (s *subscriber) settled(sub *subscription) {
	if sub.pending > 0 || sub.asked != sub.wanted || sub.placed != sub.asked {
		return
	}
	if !sub.wanted {
		s.forget(sub)
		return
	}
	sub.answer()
}

// forget ends a subscription for good. s.mu is held.
func (s *subscriber) forget(sub *subscription) {
	delete(s.groups, sub.channel)
	sub.answer()
}

// answer lets go who waits.
func (sub *subscription) answer() {
	for _, done := range sub.waiting {
		close(done)
	}
	sub.waiting = nil
}

// overdue is how many groups Redis has not answered for.
func (s *subscriber) overdue() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return 0 // that is told already
	}
	n := 0
	for _, sub := range s.groups {
		if sub.pending > 0 && time.Since(sub.since) > redisnet.AnswerWait {
			n++
		}
	}
	return n
}

// found takes a subscription off those that are missing. s.mu is held.
func (s *subscriber) found(sub *subscription) {
	if sub.missing {
		sub.missing = false
		s.missing--
	}
}
