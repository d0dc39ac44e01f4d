package redis

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/reconcile"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
)

const (
	// auditInterval is the time between checks of all memberships without a notification.
	auditInterval = 30 * time.Second
	// polledAuditInterval is the same where Redis does not notify.
	polledAuditInterval = 500 * time.Millisecond
	// pipelineSize is the maximum number of groups in one round trip.
	pipelineSize = 500
	// membershipRetryPause is the pause after a failed attempt.
	membershipRetryPause = 200 * time.Millisecond
)

// reconciler brings the memberships on one host in line with the wanted groups. One round trip takes all changes that
// have gathered.
type reconciler struct {
	members *memberships
	host    int
	kick    chan struct{}

	// Guarded by memberships.mu:
	groups  reconcile.Set[string]
	failing error // the host's error in the last attempt
}

func newReconciler(m *memberships, host int) *reconciler {
	r := &reconciler{members: m, host: host, kick: make(chan struct{}, 1)}
	r.groups.Forgot = m.forgot
	return r
}

func (r *reconciler) addr() string { return r.members.broker.hosts.Route(r.host).Addr() }

func (r *reconciler) key(g *group) string { return groupKey(r.members.broker.place.Prefix, g.Key) }

func (r *reconciler) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// leaveAll drops every group of the host for good and waits until Redis has confirmed it.
func (r *reconciler) leaveAll(ctx context.Context) error {
	m := r.members
	m.mu.Lock()
	m.closed = true
	emptied := r.groups.DropAll()
	m.mu.Unlock()
	r.wake()
	select {
	case <-emptied:
		return nil
	case <-ctx.Done():
		m.mu.Lock()
		defer m.mu.Unlock()
		return errors.Join(ctx.Err(), r.failing)
	}
}

// run reconciles until ctx ends.
func (r *reconciler) run(ctx context.Context) {
	rewritten, audited := time.Now(), time.Now()
	for {
		rewriteInterval := min(r.members.broker.settings.Load().GroupExpiry/2, time.Hour)
		audit := auditInterval
		if !r.members.broker.readers[r.host].notified() {
			audit = polledAuditInterval
		}
		pause := min(time.Until(rewritten.Add(rewriteInterval)), time.Until(audited.Add(audit)), r.untilRetry())
		if !r.sleep(ctx, pause) {
			return
		}
		if time.Since(rewritten) >= rewriteInterval {
			rewritten = time.Now()
			r.rewrite()
		}
		if time.Since(audited) >= audit {
			audited = time.Now()
			r.audit()
		}
		if r.settle(ctx) == nil {
			continue
		}
		select { // Wake-ups must not cause a busy loop on a host that is down.
		case <-time.After(membershipRetryPause):
		case <-ctx.Done():
			return
		}
	}
}

// sleep waits for a wake-up, for pause at most. It returns false when ctx ends.
func (r *reconciler) sleep(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(max(pause, 0))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-r.kick:
	case <-timer.C:
	}
	return true
}

// rewrite writes every membership on the host again, before any expires.
func (r *reconciler) rewrite() {
	r.members.mu.Lock()
	defer r.members.mu.Unlock()
	r.groups.Rewrite()
	r.wake()
}

// audit checks all memberships on the host.
func (r *reconciler) audit() {
	r.members.mu.Lock()
	defer r.members.mu.Unlock()
	r.groups.DoubtAll(false)
	r.wake()
}

// untilRetry returns the time until the next attempt after a failure or fault.
func (r *reconciler) untilRetry() time.Duration {
	r.members.mu.Lock()
	defer r.members.mu.Unlock()
	if r.failing != nil {
		return membershipRetryPause
	}
	if at := r.groups.NextRetry(); !at.IsZero() {
		return time.Until(at)
	}
	return auditInterval
}

// settle sends the commands that the groups need now, and returns an error of the host. Needs that arise meanwhile wake
// the reconciler again, so that constant joins do not delay a rewrite.
func (r *reconciler) settle(ctx context.Context) (err error) {
	m := r.members
	m.mu.Lock()
	defer m.mu.Unlock()
	r.groups.RetryFaulty(time.Now())
	for left := r.groups.Unsettled(); left > 0 && err == nil; {
		tasks := r.groups.Next(min(left, pipelineSize))
		if len(tasks) == 0 {
			break
		}
		left -= len(tasks)
		m.mu.Unlock()
		err = r.execute(ctx, tasks)
		m.mu.Lock()
	}
	r.failing = err
	if err == nil && r.groups.Unsettled() > 0 {
		r.wake()
	}
	return err
}

// execute sends commands in one round trip and records their outcomes. An error concerns the host; groups with
// successful commands are settled anyway.
func (r *reconciler) execute(ctx context.Context, tasks []reconcile.Task[string]) error {
	b := r.members.broker
	settings := b.settings.Load()
	now := time.Now()
	pipe := b.hosts.Client(r.host).Pipeline()
	replies := make([]goredis.Cmder, len(tasks))
	if err := errors.Join(r.depart(ctx, tasks), r.arrive(ctx, tasks, pipe)); err != nil {
		return r.record(tasks, replies, err, now)
	}
	for i, t := range tasks {
		key, member := groupKey(settings.Prefix, t.Entry.Key), b.readers[r.host].receiver+t.Entry.Value
		switch t.Action {
		case reconcile.Place:
			replies[i] = pipe.ZAdd(ctx, key, goredis.Z{Score: float64(now.UnixMicro()) / 1e6, Member: member})
			pipe.Expire(ctx, key, settings.GroupExpiry)
		case reconcile.Check:
			replies[i] = pipe.ZScore(ctx, key, member)
		case reconcile.Refresh:
			// With CH the reply is 1 if the member was there, because its score changes.
			// See docs/decisions/layers.md#why-is-a-membership-refreshed-with-zadd-xx
			replies[i] = pipe.ZAddArgs(ctx, key, goredis.ZAddArgs{
				XX: true, Ch: true, Members: []goredis.Z{{Score: float64(now.UnixMicro()) / 1e6, Member: member}},
			})
			pipe.Expire(ctx, key, settings.GroupExpiry)
		case reconcile.Remove:
			if ends, stays := r.outlives(t.Entry.Key, now); stays {
				replies[i] = pipe.ZAddXX(ctx, key, goredis.Z{Score: ends, Member: member})
			} else {
				replies[i] = pipe.ZRem(ctx, key, member)
			}
		case reconcile.Examine:
			replies[i] = pipe.Type(ctx, key)
		}
	}
	_, broken := pipe.Exec(ctx)
	if redisnet.IsReply(broken) { // A reply to a command; every reply is examined below.
		broken = nil
	}
	return r.record(tasks, replies, broken, now)
}

// record ends tasks with the replies, or with the error that broke the connection.
func (r *reconciler) record(
	tasks []reconcile.Task[string], replies []goredis.Cmder, broken error, now time.Time,
) error {
	b := r.members.broker
	var lapsed, late []string
	r.members.mu.Lock()
	defer r.members.mu.Unlock()
	failing := broken
	anyPlaced := sync.OnceValue(r.anyPlaced)
	for i, t := range tasks {
		err := broken
		if err == nil {
			err = replies[i].Err()
		}
		outcome := outcomeOf(t.Action, replies[i], err, anyPlaced)
		if outcome == reconcile.Failed && failing == nil {
			failing = err
		}
		r.note(t, outcome, err)
		switch r.groups.End(t, outcome, err, now) {
		case reconcile.AfterLapse:
			lapsed = append(lapsed, t.Entry.Key)
		case reconcile.AfterLateJoin:
			late = append(late, t.Entry.Key)
		}
	}
	if len(lapsed) > 0 {
		b.lost(relay.Loss{Cause: relay.LossMembership, Groups: lapsed})
	}
	if len(late) > 0 {
		b.lost(relay.Loss{Cause: relay.LossLateJoin, Groups: late})
	}
	return failing
}

// outcomeOf classifies a reply. An error that concerns a group rather than its host is a rejection.
func outcomeOf(a reconcile.Action, reply goredis.Cmder, err error, anyPlaced func() bool) reconcile.Outcome {
	switch {
	case errors.Is(err, goredis.Nil):
		return reconcile.Missing
	case redisnet.WrongType(err):
		return reconcile.Rejected
	case redisnet.IsReply(err) && strings.HasPrefix(err.Error(), "NOPERM") && anyPlaced():
		if a == reconcile.Check { // Whether the member is there stays unknown; the user may still write the member.
			return reconcile.Unknowable
		}
		return reconcile.Rejected
	case err != nil:
		return reconcile.Failed
	case a == reconcile.Refresh && reply.(*goredis.IntCmd).Val() == 0:
		return reconcile.Missing
	case a == reconcile.Examine:
		if kind := reply.(*goredis.StatusCmd).Val(); kind != "zset" && kind != "none" {
			return reconcile.Rejected
		}
	}
	return reconcile.Done
}

// note counts and logs an outcome. memberships.mu is held.
func (r *reconciler) note(t reconcile.Task[string], outcome reconcile.Outcome, err error) {
	b := r.members.broker
	switch {
	case outcome == reconcile.Missing,
		outcome == reconcile.Rejected && (t.Action == reconcile.Check || t.Action == reconcile.Refresh):
		b.health.Repairs.Add(1)
	}
	switch {
	case outcome == reconcile.Rejected && t.Action != reconcile.Remove && t.Entry.Wanted() && t.Entry.Fault() == nil:
		b.log.Warn("group cannot be joined", "group", t.Entry.Key, "key", r.key(t.Entry),
			"host", r.addr(), "error", err,
			"remedy", "delete the key, which is not a sorted set, or let the redis user use it")
	case outcome == reconcile.Done && t.Action == reconcile.Examine:
		b.log.Info("group can be joined again", "group", t.Entry.Key, "host", r.addr())
	}
}

// anyPlaced reports whether this node is a member of any group on the host. If not, a user without permission is
// the host's fault, not a group's. memberships.mu is held.
func (r *reconciler) anyPlaced() bool {
	for g := range r.groups.All {
		switch g.Phase() {
		case reconcile.Placed, reconcile.Checking, reconcile.Refreshing, reconcile.Removing:
			return true
		}
	}
	return false
}
