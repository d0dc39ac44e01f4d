package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// auditEvery is how often memberships are looked at although nothing was heard of a change.
	auditEvery = 30 * time.Second
	// auditPolled is the same where redis cannot notify.
	auditPolled = 500 * time.Millisecond
	// pipelineSize is how many groups are dealt with in one round trip.
	pipelineSize = 500
	// membershipRetry is the pause after an attempt that failed.
	membershipRetry = 200 * time.Millisecond
)

// membership keeps this node's entries in the groups' sorted sets as they should be. Join and leave only say what is
// wanted; one goroutine brings Redis in line, all that has gathered meanwhile in one round trip.
type membership struct {
	broker *Broker
	kick   chan struct{}

	mu      sync.Mutex
	groups  map[string]*group // by name: wanted, or not removed yet
	byLocal map[string]*group // by local part of the channel name
	dirty   map[*group]bool   // not known to be in line
	next    uint64
	closed  bool
	failing error // of the last attempt
}

// group is one membership. Its channel name is the receiver followed by local.
type group struct {
	name, local string
	wanted      bool
	placed      bool // in Redis, as far as we know
	doubted     bool // placed, but something has happened to the group: look
	leaving     bool // being removed right now
	lapsed      bool // it had vanished from Redis
	late        bool // a client was answered before it was placed
	waiting     []chan struct{}
}

func newMembership(b *Broker) *membership {
	return &membership{
		broker: b, kick: make(chan struct{}, 1),
		groups: map[string]*group{}, byLocal: map[string]*group{}, dirty: map[*group]bool{},
	}
}

// join wants groups, and waits until they are placed.
func (m *membership) join(ctx context.Context, groups []string) error {
	waiting := map[*group]chan struct{}{}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return relay.ErrClosed
	}
	for _, name := range groups {
		g := m.groups[name]
		if g == nil {
			m.next++
			g = &group{name: name, local: strconv.FormatUint(m.next, 36)}
			m.groups[name] = g
			m.byLocal[g.local] = g
		}
		g.wanted = true
		if !g.placed || g.leaving {
			m.dirty[g] = true
			done := make(chan struct{})
			g.waiting = append(g.waiting, done)
			waiting[g] = done
		}
	}
	m.mu.Unlock()
	m.wake()
	for _, done := range waiting {
		select {
		case <-done:
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
	return nil
}

// leave no longer wants groups.
func (m *membership) leave(groups []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range groups {
		if g := m.groups[name]; g != nil {
			g.wanted = false
			m.dirty[g] = true
		}
	}
	m.wake()
}

// leaveAll leaves every group for good and waits until Redis has heard of it.
func (m *membership) leaveAll(ctx context.Context) error {
	m.mu.Lock()
	m.closed = true
	for _, g := range m.groups {
		g.wanted = false
		m.dirty[g] = true
	}
	m.mu.Unlock()
	for {
		m.mu.Lock()
		left, err := len(m.groups), m.failing
		m.mu.Unlock()
		if left == 0 {
			return nil
		}
		m.wake()
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
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
	for _, name := range names {
		if g := m.groups[name]; g != nil && g.wanted {
			g.doubted = true
			m.dirty[g] = true
		}
	}
	any := len(m.dirty) > 0
	m.mu.Unlock()
	if any {
		m.wake()
	}
}

// verifyHost looks after all groups that a host keeps.
func (m *membership) verifyHost(host int) {
	m.mu.Lock()
	for _, g := range m.groups {
		if m.broker.hosts.index(g.name) == host && g.wanted {
			g.doubted = true
			m.dirty[g] = true
		}
	}
	m.mu.Unlock()
	m.wake()
}

// refreshAll writes every membership anew, so that it does not expire.
func (m *membership) refreshAll() {
	m.mu.Lock()
	for _, g := range m.groups {
		g.placed = false
		m.dirty[g] = true
	}
	m.mu.Unlock()
	m.wake()
}

func (m *membership) wake() {
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// run brings Redis in line until ctx ends.
func (m *membership) run(ctx context.Context) {
	refreshed, audited := time.Now(), time.Now()
	for {
		settings := m.broker.settings.Load()
		refresh := min(settings.GroupExpiry/2, time.Hour)
		audit := auditEvery
		for _, l := range m.broker.links {
			if !l.notified() {
				audit = auditPolled
			}
		}
		pause := min(time.Until(refreshed.Add(refresh)), time.Until(audited.Add(audit)))
		if m.troubled() {
			pause = min(pause, membershipRetry)
		}
		timer := time.NewTimer(max(pause, 0))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-m.kick:
		case <-timer.C:
		}
		timer.Stop()
		if time.Since(refreshed) >= refresh {
			refreshed = time.Now()
			m.refreshAll()
		}
		if time.Since(audited) >= audit {
			audited = time.Now()
			for host := range m.broker.hosts.size {
				m.verifyHost(host)
			}
		}
		m.settle(ctx)
		if m.troubled() { // do not spin on a host that is down, whoever kicks
			select {
			case <-time.After(membershipRetry):
			case <-ctx.Done():
				return
			}
		}
	}
}

func (m *membership) troubled() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failing != nil
}

// trouble says why memberships are not in place, empty if they are, or are about to be.
func (m *membership) trouble() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failing == nil || len(m.dirty) == 0 {
		return ""
	}
	return fmt.Sprintf("%d groups are not joined: %v", len(m.dirty), m.failing)
}

// settle deals with all groups that are not in line.
func (m *membership) settle(ctx context.Context) {
	byHost := make([][]*group, m.broker.hosts.size)
	m.mu.Lock()
	for g := range m.dirty {
		host := m.broker.hosts.index(g.name)
		byHost[host] = append(byHost[host], g)
	}
	m.mu.Unlock()
	var failing error
	for host, groups := range byHost {
		for len(groups) > 0 {
			n := min(len(groups), pipelineSize)
			if err := m.settleSome(ctx, m.broker.hosts.client(host), groups[:n]); err != nil {
				failing = err
				break
			}
			groups = groups[n:]
		}
	}
	m.mu.Lock()
	m.failing = failing
	m.mu.Unlock()
}

// action is what a group needs.
type action uint8

const (
	nothing action = iota
	add
	look
	remove
)

// settleSome brings some groups of one host in line.
func (m *membership) settleSome(ctx context.Context, host *goredis.Client, groups []*group) error {
	actions := make([]action, len(groups))
	m.mu.Lock()
	for i, g := range groups {
		switch {
		case !g.wanted:
			actions[i] = remove
			g.leaving = true
		case !g.placed:
			actions[i] = add
		case g.doubted:
			actions[i] = look
		}
		g.doubted = false
	}
	m.mu.Unlock()

	settings := m.broker.settings.Load()
	now := float64(time.Now().UnixMicro()) / 1e6
	looks := make([]*goredis.FloatCmd, len(groups))
	pipe := host.Pipeline()
	for i, g := range groups {
		key, member := groupKey(settings.Prefix, g.name), m.broker.receiver+g.local
		switch actions[i] {
		case add:
			pipe.ZAdd(ctx, key, goredis.Z{Score: now, Member: member})
			pipe.Expire(ctx, key, settings.GroupExpiry)
		case look:
			looks[i] = pipe.ZScore(ctx, key, member)
		case remove:
			pipe.ZRem(ctx, key, member)
		}
	}
	replies, err := pipe.Exec(ctx)
	if errors.Is(err, goredis.Nil) { // a look that found nothing; others may have failed behind it
		err = nil
	}
	for _, r := range replies {
		if r.Err() != nil && !errors.Is(r.Err(), goredis.Nil) {
			err = r.Err()
			break
		}
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		for i, g := range groups {
			g.doubted = g.doubted || actions[i] == look
			if actions[i] == remove { // perhaps it was
				g.placed, g.leaving = false, false
			}
		}
		return err
	}
	var losses lossesOfGroups
	for i, g := range groups {
		switch actions[i] {
		case add:
			g.placed = true
			losses.placed(g)
		case look:
			if errors.Is(looks[i].Err(), goredis.Nil) {
				g.placed, g.lapsed = false, true
				m.broker.health.repairs.Add(1)
			}
		case remove:
			g.placed, g.leaving = false, false
		}
		m.settled(g)
	}
	losses.report(m.broker)
	return nil
}

// settled clears a group's mark if it is as wanted. m.mu is held.
func (m *membership) settled(g *group) {
	if g.placed != g.wanted || g.placed && g.doubted {
		m.wake()
		return
	}
	delete(m.dirty, g)
	if !g.wanted {
		delete(m.groups, g.name)
		if !m.closed { // while closing, what was sent before is still delivered
			delete(m.byLocal, g.local)
		}
	}
	for _, done := range g.waiting {
		close(done)
	}
	g.waiting = nil
}
