package redis

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/history/sortedset"
)

const (
	// spillInterval is the time between looks for slow deliveries.
	spillInterval = time.Second
	// spillTimeout bounds the write of a slow delivery's events.
	spillTimeout = 5 * time.Second
	// markedGroupsMax is the number of groups up to which a loss of all groups is marked in each.
	markedGroupsMax = 1000
)

// history is the history of a layer: the store beside the mailboxes, and what mailboxes hold that the store does not
// have yet. It implements [relay.History].
type history struct {
	*sortedset.Store
	broker *Broker
	peeks  []sync.Mutex // by host: one peek at a time, which serves all who wait
	stop   context.CancelFunc
	ended  sync.WaitGroup

	large   largeKeys     // of other nodes
	adopted atomic.Uint64 // events of dead nodes' mailboxes

	patterns atomic.Pointer[patterns] // of the groups with a history
}

var (
	_ relay.History          = (*history)(nil)
	_ relay.HistoryInspector = (*history)(nil)
	_ relay.HistoryKeeper    = (*Broker)(nil)
)

// KeepHistory implements [relay.HistoryKeeper].
func (b *Broker) KeepHistory(p relay.HistoryPolicy) (relay.History, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	b.keeping.Lock()
	defer b.keeping.Unlock()
	h := b.history.Load()
	switch {
	case len(p.Rules) == 0 && h == nil:
		return nil, nil
	case len(p.Rules) == 0:
		b.history.Store(nil)
		b.beats.kick()
		ctx, cancel := context.WithTimeout(context.Background(), spillTimeout)
		defer cancel()
		return nil, h.end(ctx)
	case h != nil:
		return h, h.setPolicy(p)
	}
	s := b.settings.Load()
	store, err := sortedset.New(sortedset.Options{
		Prefix: b.place.Prefix, Hosts: b.hosts, Policy: p, EncryptionKeys: s.EncryptionKeys, Log: b.log,
		Now: b.now,
	})
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	h = &history{Store: store, broker: b, peeks: make([]sync.Mutex, b.hosts.Size)}
	h.patterns.Store(newPatterns(p))
	if b.ctx != nil {
		h.start(b.ctx)
	}
	b.history.Store(h)
	h.markHeld(nil)
	b.beats.kick()
	return h, nil
}

// setPolicy applies another policy.
func (h *history) setPolicy(p relay.HistoryPolicy) error {
	before := h.kept(h.broker.members.wanted())
	if err := h.SetPolicy(p); err != nil {
		return err
	}
	now := newPatterns(p)
	if h.patterns.Swap(now).value != now.value {
		h.markHeld(before)
		h.broker.beats.kick()
	}
	return nil
}

// markHeld marks a gap in the groups of this node, except those whose events it kept before: until now it may have kept
// none of their events.
func (h *history) markHeld(before []string) {
	known := make(map[string]bool, len(before))
	for _, g := range before {
		known[g] = true
	}
	groups := slices.DeleteFunc(h.kept(h.broker.members.wanted()), func(g string) bool { return known[g] })
	h.broker.members.beginHeld(groups)
	if len(groups) > 0 {
		h.Store.MarkGap(relay.Loss{Cause: relay.LossLateJoin, Groups: groups})
	}
}

// start runs the history until ctx ends. KeepHistory and Start call it.
func (h *history) start(ctx context.Context) {
	ctx, h.stop = context.WithCancel(ctx)
	for host := range h.broker.hosts.Size {
		h.ended.Go(func() { h.Run(ctx, host) })
		h.ended.Go(func() { h.spill(ctx, host) })
	}
}

// Close implements [relay.History]. The history lives as long as its broker, or until KeepHistory ends it.
func (h *history) Close(context.Context) error { return nil }

// end stops the history.
func (h *history) end(ctx context.Context) error {
	if h.stop != nil {
		h.stop()
		h.ended.Wait()
	}
	return h.Store.Close(ctx)
}

// spill writes the events of slow deliveries, whose messages in flight could expire before the next exchange.
func (h *history) spill(ctx context.Context, host int) {
	tick := time.NewTicker(spillInterval)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			h.large.forget(now)
			h.broker.members.endHolds(now)
			if events := h.broker.readers[host].recording.overdue(now); len(events) > 0 {
				ctx, cancel := context.WithTimeout(ctx, spillTimeout)
				_ = h.Add(ctx, host, events) // The next exchange writes them again.
				cancel()
			}
		case <-ctx.Done():
			return
		}
	}
}

// identify returns the position of an event of the mailbox, zero if it has none.
func (h *history) identify(ev *relay.Event, score []byte) relay.Position {
	if ev.Control != nil {
		return relay.Position{}
	}
	micros, ok := sortedset.Micros(score)
	if !ok {
		return relay.Position{}
	}
	return h.Identify(ev, micros)
}

// kept returns the groups that have a history.
func (h *history) kept(groups []string) (kept []string) {
	for _, g := range groups {
		if _, ok := h.Limits(g); ok {
			kept = append(kept, g)
		}
	}
	return kept
}

// MarkGap implements [relay.History]. A loss of all groups concerns the groups of this node only, with two exceptions:
// Redis itself lost events, or a node did whose groups are unknown. Such a node is also the run of this node before,
// whose clients have not returned yet.
func (h *history) MarkGap(l relay.Loss) relay.Position {
	if l.All && l.Cause != relay.LossFailover && l.Cause != relay.LossDeadNode && l.Cause != relay.LossPeerLink {
		if groups := h.broker.members.wanted(); len(groups) <= markedGroupsMax {
			l.All, l.Groups = false, groups
		}
	}
	return h.Store.MarkGap(l)
}

// HistoryStats implements [relay.HistoryInspector].
func (h *history) HistoryStats() relay.HistoryStats {
	stats := h.Store.HistoryStats()
	stats.Adopted = h.adopted.Load()
	return stats
}

// loadHistory prepares the history on a new connection, and after it was replaced or lost.
func (r *reader) loadHistory(ctx context.Context) error {
	h := r.broker.history.Load()
	if h == r.loaded || h == nil {
		r.loaded = h
		return nil
	}
	if err := h.Load(ctx, r.host); err != nil {
		return err
	}
	r.loaded = h
	return nil
}
