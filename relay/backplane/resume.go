package backplane

import (
	"context"
	"time"

	"github.com/coder/websocket"
)

// This file has the messages of the feature resume.

// ask makes the peer the source of its layer: it shall send the events of all groups. interest.mu is held.
func (l *link) ask(groups []string) {
	first := message{Reset: true}
	if l.resumes {
		first.Source = true
		first.Turn = l.b.turns.Add(1)
		first.After = l.expectDoubles(groups)
		first.Stream, first.Last, first.Loss = l.in.ask(l)
		l.catchingUp.Store(true)
	}
	l.peer.gapSeq = l.sendChange(first, groups, nil)
	l.peer.announced, l.peer.asked = false, groups
	if l.b.interest.gaps[l.peer.layer] == nil {
		l.peer.unconfirmed = append(l.peer.unconfirmed, unconfirmed{l.peer.gapSeq, groups, false})
	}
}

// sendNumbered sends events of the peer's stream, of which the first has a number.
func (l *link) sendNumbered(number uint64, events []*event) error {
	if l.timed {
		return l.sendTimed(number, events, time.Now())
	}
	size := 0
	for _, e := range events {
		size += e.cost()
	}
	batch := appendNumberedHead(make([]byte, 0, size), number, len(events))
	for _, e := range events {
		batch = appendNumbered(batch, e, l.types)
	}
	return l.write(websocket.MessageBinary, batch)
}

// receiveResume handles the messages of the feature resume, and reports whether m is one.
func (l *link) receiveResume(m message) bool {
	switch m.Type {
	case "stream":
		l.beginStream(m)
	case "refilled":
		l.receiveRefilled(m)
	case "clock":
		if !l.timed {
			return false
		}
		l.receiveClock(m, time.Now())
	case "ack":
		if s := l.stream.Load(); s != nil && s.has(l) {
			s.queue.acknowledge(m.Seq, m.Loss)
		}
	default:
		return false
	}
	return true
}

// changeGroups applies a change to the groups of the peer. The returned function waits until the memberships are
// established.
func (l *link) changeGroups(m message) (wait func(context.Context)) {
	to, groups := sink(l), &l.groupSet
	if l.resumes {
		if m.Source {
			l.takeStream(m)
			l.keep = nil
		}
		s := l.stream.Load()
		if s == nil || !s.has(l) { // the peer has its events over another link
			return func(context.Context) {}
		}
		to, groups = s, &s.groupSet
		if m.Reset && !m.Source {
			defer s.queue.forget() // the peer wants nothing any more
		}
		if len(m.After) > 0 && !l.resumed.Load() {
			list, ctx := s.beginRefills(m.After), l.refillContext(m.Source)
			defer func() {
				established := wait
				l.b.spawn(func() { s.finishRefills(ctx, l, list, established) })
			}()
		}
		m = l.collect(m)
	}
	join, leave := groups.update(m.Reset, m.Join, m.Leave, l.fault)
	l.b.tap.remove(to, leave)
	wait = l.b.tap.add(to, join)
	if l.replaced != nil && !m.More { // now, so that groups of both streams are not left in between
		l.replaced.leaveGroups()
		l.replaced = nil
	}
	return wait
}

// refillContext returns the context of reads of the history for the peer. The first message of an interest ends earlier
// reads, so that a peer which asks again and again does not have many of them.
func (l *link) refillContext(first bool) context.Context {
	if first || l.refills == nil {
		if l.endRefills != nil {
			l.endRefills()
		}
		l.refills, l.endRefills = context.WithTimeout(l.ctx, refillWait)
	}
	return l.refills
}

// collect keeps the groups of an interest in several messages. No group of the stream is left before the last message,
// in whose place a reset with all groups is returned.
func (l *link) collect(m message) message {
	if !m.Source && l.keep == nil {
		return m
	}
	if len(l.keep)+len(m.Join) <= maxPeerGroups {
		l.keep = append(l.keep, m.Join...)
	}
	if m.More {
		m.Reset = false
		return m
	}
	m.Reset, m.Join, l.keep = true, l.keep, nil
	return m
}
