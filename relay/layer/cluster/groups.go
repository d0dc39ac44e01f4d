package cluster

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/reconcile"
)

// group is a subscription in the cluster. The key is the group's name.
type group = reconcile.Entry[assignment]

// assignment is where a group is subscribed.
type assignment struct {
	at               *listener // the listener with the subscription, perhaps in flight; nil: none
	wantedSince      time.Time
	interruptedSince time.Time // counts while the group has lapsed
	progress         progress
}

const (
	// assignRetryPause is the pause after a failure.
	assignRetryPause = 100 * time.Millisecond
	// mastersInterval is the time between looks at the cluster's masters.
	mastersInterval = time.Second
)

// Join implements [relay.Broker].
func (b *Broker) Join(ctx context.Context, groups ...string) error {
	var ticket reconcile.Ticket[assignment]
	b.mu.Lock()
	if b.closing {
		b.mu.Unlock()
		return fmt.Errorf("redis_cluster channel layer: %w", relay.ErrClosed)
	}
	for _, name := range groups {
		if g := b.groups.Get(name); g == nil || !g.Wanted() {
			g, _ = b.groups.Want(name, &ticket)
			g.Value.wantedSince = time.Now()
			continue
		}
		b.groups.Want(name, &ticket)
	}
	b.mu.Unlock()
	b.wake()
	if err := ticket.Wait(ctx, &b.mu); err != nil {
		return fmt.Errorf("joining %d groups in the redis cluster: %w", len(groups), err)
	}
	return nil
}

// Leave implements [relay.Broker].
func (b *Broker) Leave(groups ...string) {
	b.mu.Lock()
	for _, name := range groups {
		b.groups.Drop(name)
	}
	b.mu.Unlock()
	b.wake()
}

func (b *Broker) wake() {
	select {
	case b.kick <- struct{}{}:
	default:
	}
}

// reconcile assigns groups to listeners until ctx ends.
func (b *Broker) reconcile(ctx context.Context) {
	for {
		left := b.assign(ctx)
		if left > 0 || b.failed.Swap(false) { // Wake-ups must not cause a busy loop on a cluster that is down.
			select {
			case <-time.After(assignRetryPause):
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-b.kick:
		case <-ctx.Done():
			return
		}
	}
}

// watchMasters looks at the masters until ctx ends, in a separate goroutine, so that a node that hangs delays no
// assignment.
func (b *Broker) watchMasters(ctx context.Context) {
	tick := time.NewTicker(mastersInterval)
	defer tick.Stop()
	for {
		b.findMasters(ctx)
		b.wake()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// findMasters listens to every master, so that the health of each is known.
func (b *Broker) findMasters(ctx context.Context) {
	masters, err := b.masters(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unknown = err
	if err != nil {
		return
	}
	b.known = masters
	for addr := range masters {
		b.listen(addr)
	}
	for addr, l := range b.listeners {
		// A healthy former master may still forward events of the shard.
		if !masters[addr] && (len(l.groups) == 0 || !l.healthy()) {
			l.end(errNoMaster)
		}
	}
}

// assign sends the commands that groups need to the listeners of their masters, and returns the number of groups with
// an
// unknown master.
func (b *Broker) assign(ctx context.Context) (left int) {
	b.mu.Lock()
	tasks := b.groups.Next(math.MaxInt)
	b.mu.Unlock()
	for _, t := range tasks {
		if t.Action == reconcile.Remove {
			b.unsubscribe(t)
		} else if !b.subscribe(ctx, t) {
			left++
		}
	}
	return left
}

// subscribe sends a subscription to the group's master, and returns false if the master is unknown.
func (b *Broker) subscribe(ctx context.Context, t reconcile.Task[assignment]) bool {
	node, err := b.client.MasterForKey(ctx, b.channel(t.Entry.Key))
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.unknown = err
	}
	if err != nil || !t.Entry.Wanted() {
		b.groups.End(t, reconcile.Unsent, nil, time.Now())
		return err == nil
	}
	l := b.listen(node.Options().Addr)
	t.Entry.Value.at = l
	l.groups[t.Entry] = true
	l.send(command{subscribe, t})
	return true
}

// unsubscribe ends a subscription at the group's listener.
func (b *Broker) unsubscribe(t reconcile.Task[assignment]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := t.Entry.Value.at; l != nil {
		l.send(command{unsubscribe, t})
		return
	}
	b.groups.End(t, reconcile.Done, nil, time.Now())
}

// confirmed notes that a subscription is in place.
func (b *Broker) confirmed(c command) {
	b.mu.Lock()
	defer b.mu.Unlock()
	g, now := c.task.Entry, time.Now()
	switch b.groups.End(c.task, reconcile.Done, nil, now) {
	case reconcile.AfterLapse:
		b.health.longest = max(b.health.longest, now.Sub(g.Value.interruptedSince))
		if !b.resumed(g) {
			b.health.back = append(b.health.back, g.Key)
		}
	case reconcile.AfterLateJoin:
		b.health.late = append(b.health.late, g.Key)
	}
	if h := b.historyOf(g.Key); h != nil && g.Value.progress.last.IsZero() {
		g.Value.progress.last = h.Began()
	}
	if !g.Wanted() {
		b.wake()
	}
}

// ended notes that a command has ended a subscription, or was refused. A late answer to a command from before an
// interruption concerns no subscription. b.mu is held.
func (b *Broker) ended(l *listener, c command, o reconcile.Outcome) {
	if !c.task.Current() {
		return
	}
	b.detach(l, c.task.Entry)
	b.groups.End(c.task, o, nil, time.Now())
	b.wake()
}

// interrupted notes that a subscription has ended by itself. b.mu is held.
func (b *Broker) interrupted(l *listener, g *group) {
	if !b.detach(l, g) {
		return
	}
	if g.InPlace() {
		g.Value.interruptedSince = time.Now()
	}
	b.groups.Lost(g)
	b.wake()
}

// detach takes a group off a listener, and returns false if the group is elsewhere. b.mu is held.
func (b *Broker) detach(l *listener, g *group) bool {
	if g.Value.at != l {
		return false
	}
	delete(l.groups, g)
	g.Value.at = nil
	return true
}

// overdue returns the number of groups that should be subscribed by now. b.mu is held.
func (b *Broker) overdue() (n int) {
	if b.groups.Unsettled() == 0 {
		return 0
	}
	for g := range b.groups.All {
		if g.Wanted() && !g.InPlace() && (g.Lapsed() || time.Since(g.Value.wantedSince) > answerTimeout) {
			n++
		}
	}
	return n
}
