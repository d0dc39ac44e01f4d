package hub

import (
	"context"
	"path"
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
	fn      func(relay.Event)
	tail    *Tail  // nil for other listeners
	pattern string // of groups; empty for a listener of one group
}

// byGroup maps a group to its listeners, and anyGroup to the listeners with a pattern.
type byGroup map[string][]*listener

// anyGroup is no valid name of a group.
const anyGroup = "*"

// call calls the listeners of each event's group.
func (ls byGroup) call(events []relay.Event) {
	for i := range events {
		for _, l := range ls[events[i].Group] {
			l.fn(events[i])
		}
		for _, l := range ls[anyGroup] {
			if ok, err := path.Match(l.pattern, events[i].Group); ok && err == nil {
				l.fn(events[i])
			}
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

// add adds a listener under a key, and returns the function that removes it.
func (l *listeners) add(key string, own *listener) (remove func()) {
	l.change(key, func(ls []*listener) []*listener {
		return append(append([]*listener(nil), ls...), own)
	})
	return func() {
		l.change(key, func(ls []*listener) []*listener {
			var rest []*listener
			for _, other := range ls {
				if other != own {
					rest = append(rest, other)
				}
			}
			return rest
		})
	}
}

// Listen implements [relay.Node].
func (h *Hub) Listen(ctx context.Context, group string, fn func(relay.Event)) (stop func()) {
	return h.listen(ctx, &h.listeners, group, nil, fn)
}

// listen adds fn to the listeners of a group. For a tail, the group is also announced to peers.
func (h *Hub) listen(
	ctx context.Context, among *listeners, group string, tail *Tail, fn func(relay.Event),
) (stop func()) {
	client := tail != nil
	remove := among.add(group, &listener{fn: fn, tail: tail})
	_ = h.interest.join(ctx, []string{group}, client)
	return sync.OnceFunc(func() {
		remove()
		h.interest.leave([]string{group}, client)
	})
}
