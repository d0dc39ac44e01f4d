package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// group is one subscription.
type group struct {
	name    string
	wanted  bool
	at      *listener // where it is subscribed to, or about to be; nil if nowhere
	heard   bool      // the subscription is confirmed
	leaving bool      // it is being ended
	asked   time.Time // when it was wanted
	deaf    time.Time // since when an earlier one is interrupted; zero if it is not
	late    bool      // a client was answered before it was heard
	waiting []chan struct{}
}

const (
	// settleRetry is the pause after a failure.
	settleRetry = 100 * time.Millisecond
	// lookEvery is how often the cluster's masters are looked at although nothing has happened.
	lookEvery = time.Second
)

// Join implements [relay.Broker].
func (b *Broker) Join(ctx context.Context, groups ...string) error {
	var waiting []chan struct{}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return fmt.Errorf("redis_cluster channel layer: %w", relay.ErrClosed)
	}
	for _, name := range groups {
		g := b.groups[name]
		if g == nil {
			g = &group{name: name}
			b.groups[name] = g
		}
		if !g.wanted {
			g.wanted, g.asked = true, time.Now()
			b.dirty[g] = true
		}
		if !g.heard || g.leaving {
			b.missing[g] = true
			done := make(chan struct{})
			g.waiting = append(g.waiting, done)
			waiting = append(waiting, done)
		}
	}
	b.mu.Unlock()
	b.wake()
	for _, done := range waiting {
		select {
		case <-done:
		case <-ctx.Done():
			b.late(groups)
			return fmt.Errorf("joining %d groups in the redis cluster: %w", len(groups), ctx.Err())
		}
	}
	return nil
}

// late notes that clients have been answered although groups are not joined yet.
func (b *Broker) late(groups []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range groups {
		if g := b.groups[name]; g != nil && !g.heard && g.deaf.IsZero() {
			g.late = true
		}
	}
}

// Leave implements [relay.Broker].
func (b *Broker) Leave(groups ...string) {
	b.mu.Lock()
	for _, name := range groups {
		if g := b.groups[name]; g != nil && g.wanted {
			g.wanted = false
			b.dirty[g] = true
			delete(b.missing, g)
		}
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

// settle brings subscriptions in line with what is wanted, until ctx ends.
func (b *Broker) settle(ctx context.Context) {
	for {
		if b.failed.Swap(false) { // do not spin
			select {
			case <-time.After(settleRetry):
			case <-ctx.Done():
				return
			}
		}
		left := b.assign(ctx)
		pause := lookEvery
		if left > 0 {
			pause = settleRetry
		}
		timer := time.NewTimer(pause)
		if left > 0 { // do not spin on a cluster that is down, whoever kicks
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return
			}
			continue
		}
		select {
		case <-b.kick:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// lookAround looks at the masters again and again, until ctx ends. A node that hangs may be asked first, and assigning
// groups does not wait for it.
func (b *Broker) lookAround(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		b.look(ctx)
		b.wake()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// look listens to every master, so that it is known which are well.
func (b *Broker) look(ctx context.Context) {
	masters, err := b.masters(ctx)
	b.mu.Lock()
	b.unknown = err
	if err == nil {
		b.known = masters
		for addr := range masters {
			b.listen(addr)
		}
		for addr, l := range b.listeners {
			if !masters[addr] && (len(l.groups) == 0 || !l.well()) { // a former master may still pass on what its shard gets
				l.end(errNoMaster)
			}
		}
	}
	b.mu.Unlock()
}

// assign gives groups that are not in line to the listeners at their masters, and returns how many could not be given.
func (b *Broker) assign(ctx context.Context) (left int) {
	b.mu.Lock()
	dirty := make([]*group, 0, len(b.dirty))
	for g := range b.dirty {
		dirty = append(dirty, g)
	}
	b.mu.Unlock()
	for _, g := range dirty {
		node, err := b.client.MasterForKey(ctx, b.channel(g.name))
		b.mu.Lock()
		switch {
		case !g.wanted && g.at == nil:
			delete(b.dirty, g)
			b.forget(g)
		case !g.wanted:
			delete(b.dirty, g)
			if g.heard && !g.leaving { // else the answer to what is under way comes first
				g.leaving = true
				g.at.send(unsubscribe, g)
			}
		case g.at != nil: // there, or under way; if it is being ended, the answer makes it dirty again
			delete(b.dirty, g)
		case err != nil:
			b.unknown = err
			left++
		default:
			delete(b.dirty, g)
			g.at = b.listen(node.Options().Addr)
			g.at.groups[g] = true
			g.at.send(subscribe, g)
		}
		b.mu.Unlock()
	}
	return left
}

// forget removes a group that is neither wanted nor subscribed to. b.mu is held.
func (b *Broker) forget(g *group) {
	for _, done := range g.waiting {
		close(done)
	}
	if b.groups[g.name] == g {
		delete(b.groups, g.name)
	}
}

// confirmed notes that a subscription stands.
func (b *Broker) confirmed(l *listener, g *group) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if g.at != l {
		return
	}
	g.heard = true
	delete(b.missing, g)
	if !g.deaf.IsZero() {
		b.health.back = append(b.health.back, g.name)
		b.health.longest = max(b.health.longest, time.Since(g.deaf))
		g.deaf = time.Time{}
	}
	if g.late && g.wanted {
		b.health.late = append(b.health.late, g.name)
	}
	g.late = false
	if !g.wanted {
		b.dirty[g] = true
		b.wake()
	}
	for _, done := range g.waiting {
		close(done)
	}
	g.waiting = nil
}

// gone notes that a subscription has ended, wanted or not. b.mu is held.
func (b *Broker) gone(l *listener, g *group) {
	if g.at != l {
		return
	}
	delete(l.groups, g)
	if g.wanted {
		b.missing[g] = true
		if g.heard && !g.leaving {
			g.deaf = time.Now()
		}
	}
	g.at, g.heard, g.leaving = nil, false, false
	b.dirty[g] = true
	b.wake()
}
