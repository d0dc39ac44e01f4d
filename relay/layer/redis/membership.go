package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/reconcile"
)

// memberships keeps this node's entries in the groups' sorted sets. Join and Leave record the wanted groups; a
// reconciler per host brings Redis in line, so that a host that hangs delays no other host.
// See docs/decisions/layers.md#why-do-joins-only-record-the-wanted-state
type memberships struct {
	broker *Broker
	hosts  []*reconciler

	mu      sync.Mutex        // guards the fields below and the reconcilers' sets
	byLocal map[string]*group // by local part of the channel name
	former  map[string]former // by local part: groups with history that were left
	pasts   map[string]*past  // by group: what came before this node's membership
	holds   map[string]*hold  // by group: memberships for dead nodes
	last    uint64            // number of the last local part
	closed  bool
}

// group is one membership. The Value is the local part of the channel name, behind the host's receiver.
type group = reconcile.Entry[string]

func newMemberships(b *Broker) *memberships {
	m := &memberships{
		broker: b, byLocal: map[string]*group{}, former: map[string]former{}, pasts: map[string]*past{},
	}
	for host := range b.hosts.Size {
		m.hosts = append(m.hosts, newReconciler(m, host))
	}
	return m
}

// of returns the reconciler of the host that keeps a group.
func (m *memberships) of(name string) *reconciler { return m.hosts[m.broker.hosts.Index(name)] }

// join wants groups and waits until they are placed. A group with an unusable key is an error at once.
func (m *memberships) join(ctx context.Context, names []string) error {
	m.mu.Lock()
	for _, name := range names {
		if h := m.holds[name]; h != nil {
			h.joined = true
		}
	}
	m.mu.Unlock()
	return m.want(ctx, names)
}

// want wants groups and waits until they are placed.
func (m *memberships) want(ctx context.Context, names []string) error {
	var ticket reconcile.Ticket[string]
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return relay.ErrClosed
	}
	for _, name := range names {
		r := m.of(name)
		if g, created := r.groups.Want(name, &ticket); created {
			m.last++
			g.Value = strconv.FormatUint(m.last, 36)
			m.byLocal[g.Value] = g
		}
		r.wake()
	}
	m.mu.Unlock()
	if err := ticket.Wait(ctx, &m.mu); err != nil {
		return fmt.Errorf("joining %d groups in redis: %w", len(names), err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, g := range ticket.Faulty() {
		errs = append(errs, fmt.Errorf("joining %s in redis: %w", g.Key, g.Fault()))
	}
	return errors.Join(errs...)
}

// forgot releases a group's channel name. While the layer closes, events that were sent before are still delivered.
func (m *memberships) forgot(g *group) {
	if !m.closed {
		delete(m.byLocal, g.Value)
		m.remember(g)
	}
}

// leave drops groups.
func (m *memberships) leave(names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range names {
		if h := m.holds[name]; h != nil {
			h.joined = false
		} else {
			m.drop(name)
		}
	}
}

// group returns the name of the group with a local part of the channel name, empty if unknown, and whether the group is
// wanted. Events of a group that was left are for the history only.
func (m *memberships) group(local string) (name string, wanted bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if g := m.byLocal[local]; g != nil {
		return g.Key, g.Wanted() || m.closed
	}
	return m.former[local].name, false
}

// verify checks the memberships in the named groups.
func (m *memberships) verify(names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range names {
		r := m.of(name)
		r.groups.Doubt(name)
		r.wake()
	}
}

// verifyHost checks all memberships on a host.
func (m *memberships) verifyHost(host int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hosts[host].groups.DoubtAll(true)
	m.hosts[host].wake()
}

// rewriteAll writes every membership again.
func (m *memberships) rewriteAll() {
	for _, r := range m.hosts {
		r.rewrite()
	}
}

// wantedOn returns the groups that are wanted on a host.
func (m *memberships) wantedOn(host int) (names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for g := range m.hosts[host].groups.All {
		if g.Wanted() {
			names = append(names, g.Key)
		}
	}
	return names
}

// trouble describes the hosts that fail while memberships are not in place; empty if there is none.
func (m *memberships) trouble() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var wrong []string
	for _, r := range m.hosts {
		if n := r.groups.Unsettled(); r.failing != nil && n > 0 {
			wrong = append(wrong, fmt.Sprintf("redis %s: %d groups are not joined: %v", r.addr(), n, r.failing))
		}
	}
	return strings.Join(wrong, "; ")
}

// faulty returns the number of groups with unusable keys, and describes the first by key.
func (m *memberships) faulty() (n int, example string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	first := ""
	for _, r := range m.hosts {
		for g := range r.groups.Faulty {
			n++
			if key := r.key(g); first == "" || key < first {
				first, example = key, fmt.Sprintf("%s on redis %s: %v", key, r.addr(), g.Fault())
			}
		}
	}
	return n, example
}
