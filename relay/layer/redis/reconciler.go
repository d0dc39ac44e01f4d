package redis

import (
	"context"
	"errors"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
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
	// leavePoll is how often a Broker that closes looks whether a host's groups are left.
	leavePoll = 2 * time.Millisecond
)

// reconciler brings the memberships on one host in line with what is wanted, all that has gathered meanwhile in one
// round trip.
type reconciler struct {
	members *membership
	host    int
	kick    chan struct{}

	// Guarded by membership.mu:
	count   int             // groups on the host
	dirty   map[*group]bool // not known to be in line
	faulty  map[*group]bool // cannot be joined, and are looked at again later
	failing error           // of the last attempt; it concerns the host
}

func newReconciler(m *membership, host int) *reconciler {
	return &reconciler{
		members: m, host: host, kick: make(chan struct{}, 1),
		dirty: map[*group]bool{}, faulty: map[*group]bool{},
	}
}

func (r *reconciler) addr() string { return r.members.broker.hosts.Route(r.host).Addr() }

// mark has a group looked at. membership.mu is held.
func (r *reconciler) mark(g *group) {
	delete(r.faulty, g)
	r.dirty[g] = true
	r.wake()
}

func (r *reconciler) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// leaveAll leaves every group of the host for good and waits until Redis has confirmed it.
func (r *reconciler) leaveAll(ctx context.Context) error {
	m := r.members
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.each(r.host, func(g *group) {
		g.wanted = false
		r.mark(g)
	})
	for {
		m.mu.Lock()
		left, err := r.count, r.failing
		m.mu.Unlock()
		if left == 0 {
			return nil
		}
		r.wake()
		select {
		case <-time.After(leavePoll):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// run brings Redis in line until ctx ends.
func (r *reconciler) run(ctx context.Context) {
	m := r.members
	refreshed, audited := time.Now(), time.Now()
	for {
		refresh := min(m.broker.settings.Load().GroupExpiry/2, time.Hour)
		audit := auditEvery
		if !m.broker.links[r.host].notified() {
			audit = auditPolled
		}
		pause := min(time.Until(refreshed.Add(refresh)), time.Until(audited.Add(audit)), r.untilRetry())
		timer := time.NewTimer(max(pause, 0))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-r.kick:
		case <-timer.C:
		}
		timer.Stop()
		if time.Since(refreshed) >= refresh {
			refreshed = time.Now()
			m.refreshHost(r.host)
		}
		if time.Since(audited) >= audit {
			audited = time.Now()
			r.audit()
		}
		if r.settle(ctx) != nil { // do not spin on a host that is down, whoever kicks
			select {
			case <-time.After(membershipRetry):
			case <-ctx.Done():
				return
			}
		}
	}
}

// audit looks after all groups that are joined.
func (r *reconciler) audit() {
	r.members.each(r.host, func(g *group) {
		if g.wanted && g.fault == nil {
			g.doubted = true
			r.mark(g)
		}
	})
}

// untilRetry is the time until something that failed is tried again.
func (r *reconciler) untilRetry() time.Duration {
	r.members.mu.Lock()
	defer r.members.mu.Unlock()
	if r.failing != nil {
		return membershipRetry
	}
	wait := auditEvery
	for g := range r.faulty {
		wait = min(wait, time.Until(g.fault.retry))
	}
	return wait
}

// settle deals with all groups that are not in line.
func (r *reconciler) settle(ctx context.Context) error {
	m := r.members
	m.mu.Lock()
	for g := range r.faulty {
		if time.Until(g.fault.retry) <= 0 {
			r.mark(g)
		}
	}
	groups := make([]*group, 0, len(r.dirty))
	for g := range r.dirty {
		groups = append(groups, g)
	}
	m.mu.Unlock()
	var failing error
	for len(groups) > 0 && failing == nil {
		n := min(len(groups), pipelineSize)
		failing = r.settleSome(ctx, groups[:n])
		groups = groups[n:]
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r.failing = failing
	return failing
}

// action is what a group needs.
type action uint8

const (
	nothing action = iota
	add
	look
	remove
	examine
)

// next is what a group needs now. membership.mu is held.
func (g *group) next() action {
	switch {
	case !g.wanted:
		g.leaving = true
		return remove
	case g.fault != nil: // nothing is written to a key that holds something else
		return examine
	case !g.placed:
		return add
	case g.doubted:
		return look
	}
	return nothing
}

// settleSome brings some groups in line. An error concerns the host; groups whose own commands succeeded are in line
// anyway.
func (r *reconciler) settleSome(ctx context.Context, groups []*group) error {
	m := r.members
	actions := make([]action, len(groups))
	m.mu.Lock()
	for i, g := range groups {
		actions[i] = g.next()
		g.doubted = false
	}
	m.mu.Unlock()

	settings := m.broker.settings.Load()
	receiver := m.broker.links[r.host].receiver
	now := float64(time.Now().UnixMicro()) / 1e6
	replies := make([]goredis.Cmder, len(groups))
	pipe := m.broker.hosts.Client(r.host).Pipeline()
	for i, g := range groups {
		key, member := groupKey(settings.Prefix, g.name), receiver+g.local
		switch actions[i] {
		case add:
			replies[i] = pipe.ZAdd(ctx, key, goredis.Z{Score: now, Member: member})
			pipe.Expire(ctx, key, settings.GroupExpiry)
		case look:
			replies[i] = pipe.ZScore(ctx, key, member)
		case remove:
			replies[i] = pipe.ZRem(ctx, key, member)
		case examine:
			replies[i] = pipe.Type(ctx, key)
		}
	}
	_, lost := pipe.Exec(ctx)
	if redisnet.IsReply(lost) { // of one of the commands; each is looked at
		lost = nil
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	failing := lost
	anyPlaced := sync.OnceValue(r.anyPlaced)
	var losses lossesOfGroups
	for i, g := range groups {
		err := lost
		if err == nil && replies[i] != nil {
			err = replies[i].Err()
		}
		err = r.apply(g, actions[i], replies[i], err, anyPlaced)
		if failing == nil {
			failing = err
		}
		if actions[i] == add && g.placed {
			losses.placed(g)
		}
	}
	losses.report(m.broker)
	return failing
}

// apply takes the reply to what a group needed. It returns an error that concerns the host. membership.mu is held.
func (r *reconciler) apply(g *group, did action, reply goredis.Cmder, err error, anyPlaced func() bool) error {
	missing := errors.Is(err, goredis.Nil)
	if ownFault(err, anyPlaced) {
		switch did {
		case remove: // a key of another type has no members
		case look:
			g.placed = false
			if !redisnet.WrongType(err) { // the user may not look; whether the group is there is not known: write it again
				r.settled(g)
				return nil
			}
			g.lapsed = true
			r.members.broker.health.Repairs.Add(1)
			r.blame(g, err)
			return nil
		default:
			g.placed = false
			r.blame(g, err)
			return nil
		}
	} else if err != nil && !missing {
		g.doubted = g.doubted || did == look
		if did == remove { // perhaps it was
			g.placed, g.leaving = false, false
		}
		return err
	}
	switch did {
	case add:
		g.placed = true
	case look:
		if missing {
			g.placed, g.lapsed = false, true
			r.members.broker.health.Repairs.Add(1)
		}
	case remove:
		g.placed, g.leaving, g.fault = false, false, nil
	case examine:
		if kind := reply.(*goredis.StatusCmd).Val(); kind != "zset" && kind != "none" {
			r.blame(g, g.fault.err)
			return nil
		}
		r.forgive(g)
	}
	r.settled(g)
	return nil
}

// anyPlaced reports whether any group on the host is joined. membership.mu is held.
func (r *reconciler) anyPlaced() bool {
	for _, g := range r.members.groups {
		if g.on == r && g.placed {
			return true
		}
	}
	return false
}

// settled clears a group's mark if it is as wanted. membership.mu is held.
func (r *reconciler) settled(g *group) {
	m := r.members
	if g.placed != g.wanted || g.placed && g.doubted {
		r.wake()
		return
	}
	delete(r.dirty, g)
	if !g.wanted {
		delete(m.groups, g.name)
		r.count--
		if !m.closed { // while closing, what was sent before is still delivered
			delete(m.byLocal, g.local)
		}
	}
	g.answer()
}

// answer lets the callers go that wait for the group. membership.mu is held.
func (g *group) answer() {
	for _, done := range g.waiting {
		close(done)
	}
	g.waiting = nil
}
