package relay

import (
	"context"
	"sync"
	"sync/atomic"
)

// listeners are the node's own consumers of groups, such as the backplane.
type listeners struct {
	mu      sync.Mutex
	byGroup atomic.Pointer[byGroup]
}

type listener struct{ fn func(Event) }

type byGroup map[string][]*listener

// hear calls the listeners of each event's group.
func (ls byGroup) hear(events []Event) {
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
func (h *Hub) Listen(ctx context.Context, group string, fn func(Event)) (stop func()) {
	return h.listen(ctx, &h.listeners, group, false, fn)
}

// listen makes fn one of the listeners of a group. If it is a client's, peers are asked for the group's events, too.
func (h *Hub) listen(ctx context.Context, among *listeners, group string, client bool, fn func(Event)) (stop func()) {
	own := &listener{fn}
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
