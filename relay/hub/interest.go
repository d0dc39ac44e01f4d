package hub

import (
	"context"
	"errors"
	"sync"

	"github.com/edgerelay/edgerelay/relay"
)

// interest counts, for each group, how many local subscriptions want it, and keeps the channel layer's
// membership in step: joined with the first, left with the last.
type interest struct {
	mu     sync.Mutex
	broker relay.Broker
	groups map[string]*membership
	// backplane, if there is one, hears of groups that got their first or lost their last client.
	backplane relay.Backplane
	heard     int // groups with a client
}

// membership is this node's part in one group.
type membership struct {
	group   string // the one copy of the name that all subscriptions share
	count   int
	clients int           // how many of count are clients; the rest are listeners, which peers need not know of
	joined  bool          // the layer in force has taken it; guarded by interest.mu
	told    chan struct{} // closed once peers have been told of the first client; guarded by interest.mu
}

// join counts one more subscription to each group, and returns when all of them are joined in the
// layer, or with ctx's error. They count either way. Those of clients are made known to peers.
func (i *interest) join(ctx context.Context, groups []string, clients bool) error {
	return i.want(groups, clients).wait(ctx)
}

// joining is a call of want that has not been waited for.
type joining struct {
	interest   *interest
	broker     relay.Broker
	unjoined   []*membership         // those that the layer is not known to have taken
	peersReady func(context.Context) // waits for peers to hear of groups that got their first client; nil: none did
	told       chan struct{}         // to be closed then
	others     []chan struct{}       // closed once peers have heard of the groups; to be waited for
}

// want counts one more subscription to each group. Every caller waits for its own groups, and not for what else an
// earlier caller wanted: that may be on another host, which hangs.
func (i *interest) want(groups []string, clients bool) *joining {
	j := &joining{interest: i}
	var firstClients []string
	i.mu.Lock()
	defer i.mu.Unlock()
	j.broker = i.broker
	for _, g := range groups {
		m := i.groups[g]
		if m == nil {
			m = &membership{group: g}
			i.groups[g] = m
		}
		if !m.joined {
			j.unjoined = append(j.unjoined, m)
		}
		m.count++
		if !clients {
			continue
		}
		if m.clients++; m.clients == 1 {
			if j.told == nil {
				j.told = make(chan struct{})
			}
			m.told = j.told
			firstClients = append(firstClients, m.group)
		} else if n := len(j.others); n == 0 || j.others[n-1] != m.told {
			j.others = append(j.others, m.told)
		}
	}
	if i.heard += len(firstClients); len(firstClients) > 0 && i.backplane != nil {
		j.peersReady = i.backplane.Interest(firstClients, nil)
	}
	return j
}

// wait returns when all groups are joined in the layer and peers have heard of them, or with an error.
func (j *joining) wait(ctx context.Context) error {
	switch {
	case j.peersReady != nil: // beside the layer, whose hosts may hang
		j.others = append(j.others, j.told)
		go func() {
			defer close(j.told)
			j.peersReady(ctx)
		}()
	case j.told != nil:
		close(j.told)
	}
	var err error
	if len(j.unjoined) > 0 {
		err = j.interest.joinLayer(ctx, j.broker, j.unjoined)
	}
	for _, told := range j.others {
		if e := await(ctx, told); e != nil {
			return e
		}
	}
	return err
}

// joinLayer joins groups in the layer; in the next one, if the layer is exchanged meanwhile.
func (i *interest) joinLayer(ctx context.Context, broker relay.Broker, ms []*membership) error {
	groups := make([]string, len(ms))
	for n, m := range ms {
		groups[n] = m.group
	}
	for broker != nil {
		err := broker.Join(ctx, groups...)
		if err == nil {
			i.taken(broker, ms)
		}
		next := i.current()
		if !errors.Is(err, relay.ErrClosed) || next == broker {
			return err
		}
		broker = next
	}
	return nil
}

// taken notes that a layer has taken memberships.
func (i *interest) taken(broker relay.Broker, ms []*membership) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, m := range ms {
		m.joined = i.broker == broker
	}
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
func (i *interest) exchange(b relay.Broker) (old relay.Broker, groups []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	old, i.broker = i.broker, b
	for g, m := range i.groups {
		m.joined = false
		groups = append(groups, g)
	}
	return old, groups
}

// settle leaves those groups that nobody has wanted any more since exchange: b had not been asked to join them when they were left.
func (i *interest) settle(b relay.Broker, groups []string) {
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

func (i *interest) current() relay.Broker {
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
