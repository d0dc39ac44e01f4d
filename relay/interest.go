package relay

import (
	"context"
	"sync"
)

// interest counts, for each group, how many local subscriptions want it, and keeps the channel layer's
// membership in step: joined with the first, left with the last.
type interest struct {
	mu     sync.Mutex
	broker Broker
	groups map[string]*membership
	// watch, if set, hears of groups that got their first or lost their last subscription.
	watch func(joined, left []string)
}

// membership is this node's part in one group.
type membership struct {
	group string // the one copy of the name that all subscriptions share
	count int
	ready chan struct{} // closed once the first join has been tried
}

// join counts one more subscription to each group, and returns when all of them are joined in the
// layer, or with ctx's error. They count either way.
func (i *interest) join(ctx context.Context, groups []string) error {
	var first, wait []*membership
	i.mu.Lock()
	for _, g := range groups {
		m := i.groups[g]
		if m == nil {
			m = &membership{group: g, ready: make(chan struct{})}
			i.groups[g] = m
			first = append(first, m)
		} else {
			wait = append(wait, m)
		}
		m.count++
	}
	names := make([]string, len(first))
	for n, m := range first {
		names[n] = m.group
	}
	if len(first) > 0 && i.watch != nil {
		i.watch(names, nil)
	}
	broker := i.broker
	i.mu.Unlock()

	var err error
	if len(first) > 0 {
		if broker != nil {
			err = broker.Join(ctx, names...)
		}
		for _, m := range first {
			close(m.ready)
		}
	}
	for _, m := range wait {
		select {
		case <-m.ready:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

// name returns the shared copy of a group's name.
func (i *interest) name(group string) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	if m := i.groups[group]; m != nil {
		return m.group
	}
	return group
}

// leave takes back one subscription to each group.
func (i *interest) leave(groups []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	var last []string
	for _, g := range groups {
		if m := i.groups[g]; m != nil {
			if m.count--; m.count == 0 {
				delete(i.groups, g)
				last = append(last, g)
			}
		}
	}
	if len(last) == 0 {
		return
	}
	// Told under the lock: a join of the same group must not overtake it.
	if i.broker != nil {
		i.broker.Leave(last...)
	}
	if i.watch != nil {
		i.watch(nil, last)
	}
}

// exchange puts b in force and returns the broker before it and all groups that b has to join.
func (i *interest) exchange(b Broker) (old Broker, groups []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	old, i.broker = i.broker, b
	for g := range i.groups {
		groups = append(groups, g)
	}
	return old, groups
}

func (i *interest) current() Broker {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.broker
}

// size is the number of groups that have a local subscription.
func (i *interest) size() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.groups)
}

// Interested returns the groups that have a local subscription.
func (h *Hub) Interested() []string {
	h.interest.mu.Lock()
	defer h.interest.mu.Unlock()
	groups := make([]string, 0, len(h.interest.groups))
	for g := range h.interest.groups {
		groups = append(groups, g)
	}
	return groups
}

// WatchInterest calls fn whenever groups get their first local subscription or lose their last; nil ends it.
// Calls come one after another and in order; fn must neither block nor call the hub.
func (h *Hub) WatchInterest(fn func(joined, left []string)) {
	h.interest.mu.Lock()
	defer h.interest.mu.Unlock()
	h.interest.watch = fn
}
