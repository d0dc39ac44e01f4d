package hub

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// interest counts the local subscriptions to each group and keeps this node's memberships in the channel layer in step:
// joined with the first subscription, left with the last. Groups with clients are announced to the backplane. A group
// with history stays joined and announced for a while after its last client; see linger.go.
type interest struct {
	mu         sync.Mutex // guards all below, and the memberships
	broker     relay.Broker
	groups     map[string]*membership
	backplane  relay.Backplane // nil if there is none
	history    relay.History   // is told the memberships; nil if there is none
	withClient int             // number of groups with a client
	lingering  lingering
}

// membership is this node's entry in a group.
type membership struct {
	group     string        // the copy of the name that all subscriptions share
	count     int32         // of subscriptions and listeners
	clients   int32         // part of count; listeners are not announced to peers
	announced chan struct{} // closed once peers know of the first client
	lingers   *lingerer     // nil unless the group lingers
	joined    bool          // the current layer has confirmed the membership
}

// join counts a new subscription to each group. It returns when the layer has confirmed all groups and peers know of
// groups with clients, or with ctx's error; the subscriptions count either way.
func (i *interest) join(ctx context.Context, groups []string, clients bool) error {
	return i.want(groups, clients).wait(ctx)
}

// announceTimeout bounds the wait for peers if the subscription has no deadline.
const announceTimeout = 5 * time.Second

// joining is the part of a join that may block; see wait.
type joining struct {
	interest  *interest
	broker    relay.Broker
	unjoined  []*membership         // memberships that the layer has not confirmed
	awaitAll  func(context.Context) // waits until peers know of groups with a first client; nil: peers know
	announced chan struct{}         // to be closed then; nil: no group got its first client
	others    []chan struct{}       // announced channels of the groups that had clients before
}

// want counts a new subscription to each group. Each caller then waits for its own groups only: an earlier caller's
// other groups may be on a host that hangs.
func (i *interest) want(groups []string, clients bool) *joining {
	j := &joining{interest: i}
	var firstClients, first []string
	i.mu.Lock()
	defer i.mu.Unlock()
	j.broker = i.broker
	for _, g := range groups {
		m := i.groups[g]
		if m == nil {
			m = &membership{group: g}
			i.groups[g] = m
			if i.history != nil {
				first = append(first, m.group)
			}
		}
		if !m.joined {
			j.unjoined = append(j.unjoined, m)
		}
		m.count++
		if !clients {
			continue
		}
		m.clients++
		if m.clients == 1 {
			i.withClient++
		}
		if m.clients == 1 && !i.lingering.remove(m) {
			if j.announced == nil {
				j.announced = make(chan struct{})
			}
			m.announced = j.announced
			firstClients = append(firstClients, m.group)
		} else if n := len(j.others); n == 0 || j.others[n-1] != m.announced {
			j.others = append(j.others, m.announced)
		}
	}
	if len(first) > 0 { // before the layer is asked: the events follow
		i.history.Joined(first)
	}
	if len(firstClients) > 0 && i.backplane != nil {
		j.awaitAll = i.backplane.Interest(firstClients, nil)
	}
	return j
}

// wait returns when the layer has confirmed all groups and peers know of groups with clients, or with an error.
func (j *joining) wait(ctx context.Context) error {
	switch {
	case j.awaitAll != nil: // concurrently with the layer: its hosts may hang
		j.others = append(j.others, j.announced)
		go func() {
			defer close(j.announced)
			// Other clients of the groups wait for this, too, so it does not end because this client leaves.
			until, ok := ctx.Deadline()
			if !ok {
				until = time.Now().Add(announceTimeout)
			}
			all, cancel := context.WithDeadline(context.WithoutCancel(ctx), until)
			defer cancel()
			j.awaitAll(all)
		}()
	case j.announced != nil:
		close(j.announced)
	}
	var err error
	if len(j.unjoined) > 0 {
		err = j.interest.joinLayer(ctx, j.broker, j.unjoined)
	}
	for _, announced := range j.others {
		if e := await(ctx, announced); e != nil {
			return e
		}
	}
	return err
}

// joinLayer joins groups in the layer, and in its successor if the layer is replaced in the meantime.
func (i *interest) joinLayer(ctx context.Context, broker relay.Broker, ms []*membership) error {
	groups := make([]string, len(ms))
	for n, m := range ms {
		groups[n] = m.group
	}
	for broker != nil {
		err := broker.Join(ctx, groups...)
		if err == nil {
			i.setJoined(broker, ms)
		}
		next := i.current()
		if !errors.Is(err, relay.ErrClosed) || next == broker {
			return err
		}
		broker = next
	}
	return nil
}

// setJoined records that a layer has taken memberships.
func (i *interest) setJoined(broker relay.Broker, ms []*membership) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, m := range ms {
		m.joined = i.broker == broker
	}
}

// unconfirmed returns those of the groups that the layer has not taken, or that peers do not know.
func (i *interest) unconfirmed(groups []string) (late []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, g := range groups {
		m := i.groups[g]
		known := false
		if m != nil && m.joined && m.announced != nil {
			select {
			case <-m.announced:
				known = true
			default:
			}
		}
		if !known {
			late = append(late, g)
		}
	}
	return late
}

// await waits until c is closed. Usually, c is closed already: the fast path does not allocate ctx.Done's channel.
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

// leave stops counting a subscription to each group.
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
				i.withClient--
				if !i.linger(m) {
					lastClients = append(lastClients, g)
				}
			}
		}
		if m.count--; m.count == 0 && m.lingers == nil {
			last = append(last, g)
		}
	}
	i.end(last, lastClients)
	i.endSurplus()
}

// end ends memberships, and the announcements of groups to peers. i.mu is held, so that a join of the same group cannot
// overtake the Leave.
func (i *interest) end(last, lastClients []string) {
	for _, g := range last {
		delete(i.groups, g)
	}
	if len(last) > 0 && i.broker != nil {
		i.broker.Leave(last...)
	}
	if len(last) > 0 && i.history != nil {
		i.history.Left(last)
	}
	if len(lastClients) > 0 && i.backplane != nil {
		i.backplane.Interest(nil, lastClients)
	}
}

// exchange makes b the current broker, and returns its predecessor and all groups that b has to join.
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

// leaveUnwanted leaves groups that lost their last subscription between exchange and b's join.
func (i *interest) leaveUnwanted(b relay.Broker, groups []string) {
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

// size returns the number of groups with a client.
func (i *interest) size() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.withClient
}

// announcedGroups returns the groups with a client, and those that linger. i.mu is held.
func (i *interest) announcedGroups() (groups []string) {
	for g, m := range i.groups {
		if m.clients > 0 || m.lingers != nil {
			groups = append(groups, g)
		}
	}
	return groups
}

// clientGroups returns the groups with a client. i.mu is held.
func (i *interest) clientGroups() (groups []string) {
	for g, m := range i.groups {
		if m.clients > 0 {
			groups = append(groups, g)
		}
	}
	return groups
}
