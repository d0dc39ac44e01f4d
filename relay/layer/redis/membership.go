package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/edgerelay/edgerelay/relay"
)

// membership keeps this node's entries in the groups' sorted sets as they should be. Join and leave only say what is
// wanted; one reconciler for each host brings Redis in line, so that no host waits for another.
type membership struct {
	broker *Broker
	hosts  []*reconciler

	mu      sync.Mutex        // guards the fields below, the groups, and the reconcilers' fields that say so
	groups  map[string]*group // by name: wanted, or not removed yet
	byLocal map[string]*group // by local part of the channel name
	next    uint64
	closed  bool
}

// group is one membership. Its channel name is the receiver of its host followed by local.
type group struct {
	name, local string
	on          *reconciler
	wanted      bool
	placed      bool   // in Redis, as far as we know
	doubted     bool   // placed, but something has happened to the group: look
	leaving     bool   // being removed right now
	fault       *fault // why the group alone cannot be joined, although its host is well
	lapsed      bool   // it had vanished from Redis
	late        bool   // a client was answered before it was placed
	waiting     []chan struct{}
}

func newMembership(b *Broker) *membership {
	m := &membership{broker: b, groups: map[string]*group{}, byLocal: map[string]*group{}}
	for host := range b.hosts.Size {
		m.hosts = append(m.hosts, newReconciler(m, host))
	}
	return m
}

// join wants groups, and waits until they are placed. It does not wait for those that cannot be: their keys hold
// something else.
func (m *membership) join(ctx context.Context, groups []string) error {
	waiting := map[*group]chan struct{}{}
	var faulty []*group
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return relay.ErrClosed
	}
	for _, name := range groups {
		g := m.groups[name]
		if g == nil {
			g = m.add(name)
		}
		g.wanted = true
		switch {
		case g.fault != nil:
			faulty = append(faulty, g)
			g.late = g.late || !g.lapsed
		case !g.placed || g.leaving:
			g.on.mark(g)
			done := make(chan struct{})
			g.waiting = append(g.waiting, done)
			waiting[g] = done
		}
	}
	m.mu.Unlock()
	for g, done := range waiting {
		select {
		case <-done:
			faulty = append(faulty, g)
		case <-ctx.Done():
			m.mu.Lock()
			for g, done := range waiting { // or, while a host is away, they would gather
				g.waiting = slices.DeleteFunc(g.waiting, func(c chan struct{}) bool { return c == done })
				g.late = g.late || !g.placed && !g.lapsed
			}
			m.mu.Unlock()
			return fmt.Errorf("joining %d groups in redis: %w", len(groups), ctx.Err())
		}
	}
	return m.faults(faulty)
}

// add makes a group known. m.mu is held.
func (m *membership) add(name string) *group {
	m.next++
	g := &group{name: name, local: strconv.FormatUint(m.next, 36), on: m.hosts[m.broker.hosts.Index(name)]}
	m.groups[name] = g
	m.byLocal[g.local] = g
	g.on.count++
	return g
}

// faults says which of some groups cannot be joined, and why.
func (m *membership) faults(groups []*group) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, g := range groups {
		if g.fault != nil {
			errs = append(errs, fmt.Errorf("joining %s in redis: %w", g.name, g.fault.err))
		}
	}
	return errors.Join(errs...)
}

// leave no longer wants groups.
func (m *membership) leave(groups []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range groups {
		if g := m.groups[name]; g != nil {
			g.wanted = false
			g.on.mark(g)
		}
	}
}

// group finds the group that a local part of a channel name stands for.
func (m *membership) group(local string) (string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if g := m.byLocal[local]; g != nil && (g.wanted || m.closed) {
		return g.name, true
	}
	return "", false
}

// verify looks whether this node is still a member of the named groups.
func (m *membership) verify(names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range names {
		if g := m.groups[name]; g != nil && g.wanted {
			g.doubted = true
			g.on.mark(g)
		}
	}
}

// verifyHost looks after all groups that a host keeps.
func (m *membership) verifyHost(host int) {
	m.each(host, func(g *group) {
		if g.wanted {
			g.doubted = true
			g.on.mark(g)
		}
	})
}

// refreshHost writes every membership on a host again, so that it does not expire.
func (m *membership) refreshHost(host int) {
	m.each(host, func(g *group) {
		g.placed = false
		g.on.mark(g)
	})
}

// refreshAll is refreshHost for all hosts.
func (m *membership) refreshAll() {
	for host := range m.hosts {
		m.refreshHost(host)
	}
}

// each calls fn with the groups of a host.
func (m *membership) each(host int, fn func(*group)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, g := range m.groups {
		if g.on == m.hosts[host] {
			fn(g)
		}
	}
}

// trouble says why memberships are not in place, empty if they are, or are about to be.
func (m *membership) trouble() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var wrong []string
	for _, r := range m.hosts {
		if r.failing != nil && len(r.dirty) > 0 {
			wrong = append(wrong,
				fmt.Sprintf("redis %s: %d groups are not joined: %v", r.addr(), len(r.dirty), r.failing))
		}
	}
	return strings.Join(wrong, "; ")
}
