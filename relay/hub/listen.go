package hub

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/edgerelay/edgerelay/relay"
)

// listeners are consumers of groups inside this process, such as the backplane and tails. The map is replaced as a
// whole, so that deliveries read it without a lock.
type listeners struct {
	mu      sync.Mutex // serializes changes
	byGroup atomic.Pointer[byGroup]
}

type listener struct {
	fn   func(relay.Event)
	tail *Tail // nil for other listeners
}

type byGroup map[string][]*listener

// call calls the listeners of each event's group.
func (ls byGroup) call(events []relay.Event) {
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

// tails counts the tails of a group and returns the highest rate among them. The flag reports whether the group has
// other listeners.
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

// change replaces the listeners of a group by the result of edit.
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

// Listen implements [relay.Node].
func (h *Hub) Listen(ctx context.Context, group string, fn func(relay.Event)) (stop func()) {
	return h.listen(ctx, &h.listeners, group, nil, fn)
}

// listen adds fn to the listeners of a group. For a tail, the group is also announced to peers.
func (h *Hub) listen(
	ctx context.Context, among *listeners, group string, tail *Tail, fn func(relay.Event),
) (stop func()) {
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
