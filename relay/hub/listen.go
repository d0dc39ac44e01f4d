package hub

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/edgerelay/edgerelay/relay"
)

// listeners are the node's own consumers of groups, such as the backplane.
type listeners struct {
	mu      sync.Mutex
	byGroup atomic.Pointer[byGroup]
}

type listener struct {
	fn   func(relay.Event)
	tail *Tail // nil if it is none
}

type byGroup map[string][]*listener

// hear calls the listeners of each event's group.
func (ls byGroup) hear(events []relay.Event) {
	for i := range events {
		for _, l := range ls[events[i].Group] {
			l.fn(events[i])
		}
	}
}

func (l *listeners) load() byGroup {
	if p := l.byGroup.Load(); p != nil {
		return *p
	}
	return nil
}

// tails counts the tails of a group, and returns the most events a second that one of them gets; other is whether there
// are other listeners.
func (ls byGroup) tails(group string) (n int, rate float64, other bool) {
	for _, l := range ls[group] {
		if l.tail == nil {
			other = true
			continue
		}
		n++
		rate = max(rate, l.tail.rate())
	}
	return n, rate, other
}

// eachTail calls fn with every tail.
func (ls byGroup) eachTail(fn func(*Tail)) {
	for _, list := range ls {
		for _, l := range list {
			if l.tail != nil {
				fn(l.tail)
			}
		}
	}
}

// change replaces the listeners of one group by what edit makes of them.
func (l *listeners) change(group string, edit func([]*listener) []*listener) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := byGroup{}
	for g, ls := range l.load() {
		next[g] = ls
	}
	if ls := edit(next[group]); len(ls) > 0 {
		next[group] = ls
	} else {
		delete(next, group)
	}
	if len(next) == 0 {
		l.byGroup.Store(nil)
		return
	}
	l.byGroup.Store(&next)
}

// Listen calls fn with every event of a group, in order, from the goroutine that delivers it, so fn
// must be quick. The group stays joined until stop is called. If ctx ends before the
// layer has taken the membership, Listen returns all the same and the layer goes on trying.
func (h *Hub) Listen(ctx context.Context, group string, fn func(relay.Event)) (stop func()) {
	return h.listen(ctx, &h.listeners, group, nil, fn)
}

// listen makes fn one of the listeners of a group. If it is a tail's, peers are asked for the group's events, too.
func (h *Hub) listen(ctx context.Context, among *listeners, group string, tail *Tail, fn func(relay.Event)) (stop func()) {
	own, client := &listener{fn, tail}, tail != nil
	among.change(group, func(ls []*listener) []*listener {
		return append(append([]*listener(nil), ls...), own)
	})
	_ = h.interest.join(ctx, []string{group}, client)
	return sync.OnceFunc(func() {
		among.change(group, func(ls []*listener) []*listener {
			var rest []*listener
			for _, l := range ls {
				if l != own {
					rest = append(rest, l)
				}
			}
			return rest
		})
		h.interest.leave([]string{group}, client)
	})
}
