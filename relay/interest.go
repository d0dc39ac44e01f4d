package relay

import (
	"context"
	"errors"
	"sync"
)

// interest counts, for each group, how many local subscriptions want it, and keeps the channel layer's
// membership in step: joined with the first, left with the last.
type interest struct {
	mu     sync.Mutex
	broker Broker
	groups map[string]*membership
	// backplane, if there is one, hears of groups that got their first or lost their last client.
	backplane Backplane
	heard     int // groups with a client
}

// membership is this node's part in one group.
type membership struct {
	group   string // the one copy of the name that all subscriptions share
	count   int
	clients int           // how many of count are clients; the rest are listeners, which peers need not know of
	ready   chan struct{} // closed once the first join has been tried
	failed  bool          // it was given up, so that who waits for ready has to see for himself; set before ready is closed
	told    chan struct{} // closed once peers have been told of the first client; guarded by interest.mu
}

// join counts one more subscription to each group, and returns when all of them are joined in the
// layer, or with ctx's error. They count either way. Those of clients are made known to peers.
func (i *interest) join(ctx context.Context, groups []string, clients bool) error {
	var first, firstClients, wait []*membership
	var told chan struct{}
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
		if !clients {
			continue
		}
		if m.clients++; m.clients == 1 {
			if told == nil {
				told = make(chan struct{})
			}
			m.told = told
			firstClients = append(firstClients, m)
		} else {
			wait = append(wait, m)
		}
	}
	var peersReady func(context.Context)
	if i.heard += len(firstClients); len(firstClients) > 0 && i.backplane != nil {
		peersReady = i.backplane.Interest(names(firstClients), nil)
	}
	broker := i.broker
	i.mu.Unlock()

	var err error
	if len(first) > 0 {
		err = i.joinLayer(ctx, broker, names(first))
		for _, m := range first {
			m.failed = err != nil
			close(m.ready)
		}
	}
	if peersReady != nil {
		peersReady(ctx)
	}
	if told != nil {
		close(told)
	}
	var unsure []string
	for _, m := range wait {
		if e := i.await(ctx, m, clients); e != nil {
			// The first joiner may have more patience: make the layer report the groups as joined late, if they will be.
			_ = i.joinLayer(ctx, broker, names(wait))
			return e
		}
		if m.failed {
			unsure = append(unsure, m.group)
		}
	}
	if len(unsure) > 0 && err == nil { // who was first had less patience
		err = i.joinLayer(ctx, broker, unsure)
	}
	return err
}

// joinLayer joins groups in the layer; in the next one, if the layer is exchanged meanwhile.
func (i *interest) joinLayer(ctx context.Context, broker Broker, groups []string) error {
	for broker != nil {
		err := broker.Join(ctx, groups...)
		next := i.current()
		if !errors.Is(err, ErrClosed) || next == broker {
			return err
		}
		broker = next
	}
	return nil
}

// await waits until somebody else's join of a group has been tried.
func (i *interest) await(ctx context.Context, m *membership, clients bool) error {
	if err := await(ctx, m.ready); err != nil || !clients {
		return err
	}
	i.mu.Lock()
	told := m.told
	i.mu.Unlock()
	return await(ctx, told)
}

// await waits until c is closed. Most often it is already, and then ctx is spared the making of a channel.
func await(ctx context.Context, c <-chan struct{}) error {
	select {
	case <-c:
		return nil
	default:
	}
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func names(ms []*membership) []string {
	list := make([]string, len(ms))
	for n, m := range ms {
		list[n] = m.group
	}
	return list
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
func (i *interest) leave(groups []string, clients bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	var last, lastClients []string
	for _, g := range groups {
		m := i.groups[g]
		if m == nil {
			continue
		}
		if clients {
			if m.clients--; m.clients == 0 {
				lastClients = append(lastClients, g)
			}
		}
		if m.count--; m.count == 0 {
			delete(i.groups, g)
			last = append(last, g)
		}
	}
	// Told under the lock: a join of the same group must not overtake it.
	if len(last) > 0 && i.broker != nil {
		i.broker.Leave(last...)
	}
	if i.heard -= len(lastClients); len(lastClients) > 0 && i.backplane != nil {
		i.backplane.Interest(nil, lastClients)
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

// settle leaves those groups that nobody has wanted any more since exchange: b had not been asked to join them when they were left.
func (i *interest) settle(b Broker, groups []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	var left []string
	for _, g := range groups {
		if i.groups[g] == nil {
			left = append(left, g)
		}
	}
	if len(left) > 0 && i.broker == b {
		b.Leave(left...)
	}
}

func (i *interest) current() Broker {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.broker
}

// size is the number of groups that have a client.
func (i *interest) size() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.heard
}

// Interested returns the groups that clients of this node are subscribed to.
func (h *Hub) Interested() []string {
	h.interest.mu.Lock()
	defer h.interest.mu.Unlock()
	var groups []string
	for g, m := range h.interest.groups {
		if m.clients > 0 {
			groups = append(groups, g)
		}
	}
	return groups
}
