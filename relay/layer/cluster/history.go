package cluster

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/history/stream"
)

// KeepHistory implements [relay.HistoryKeeper].
func (b *Broker) KeepHistory(p relay.HistoryPolicy) (relay.History, error) {
	current := b.history.Load()
	switch {
	case len(p.Rules) == 0:
		b.history.Store(nil)
		if current != nil {
			ctx, cancel := context.WithTimeout(context.Background(), historyCloseTimeout)
			defer cancel()
			_ = current.Close(ctx)
		}
		return nil, nil
	case current != nil:
		current.SetPolicy(p)
	default:
		current = stream.New(stream.Options{Client: b.client, Channel: b.channel, Policy: p, Log: b.log})
		b.mu.Lock()
		for g := range b.groups.All { // notes of an earlier history are out of date
			g.Value.progress = progress{}
		}
		b.mu.Unlock()
		b.history.Store(current)
	}
	return current, nil
}

// historyCloseTimeout bounds the end of a history that is switched off.
const historyCloseTimeout = time.Second

// historyOf returns the history of a group, nil if the group has none.
func (b *Broker) historyOf(group string) *stream.Store {
	if h := b.history.Load(); h != nil {
		if _, ok := h.Limits(group); ok {
			return h
		}
	}
	return nil
}

// progress is how far a subscription is in the stream of its group. Broker.mu guards it.
// See docs/decisions/history.md#why-does-an-interrupted-subscription-read-the-stream
type progress struct {
	// last is the position of the last event that was handed over. Before the first one, the mark is zero, and Micros is
	// when the subscription began; zero: the group had no history then.
	last relay.Position
	// behind is set while events are read from the stream, and live ones are not taken, because the stream has them.
	behind bool
	// until is the position of the newest event that was not taken since the stream was read; zero: there was none.
	until relay.Position
	// interrupted is set if the subscription was interrupted again meanwhile.
	interrupted bool
}

// step is the fate of a numbered event.
type step uint8

const (
	// deliver: the event is the next one.
	deliver step = iota
	// skip: the event was handed over before, or will be read from the stream.
	skip
	// fill: events before this one are missing, and are read from the stream, with this one.
	fill
)

// next decides about a numbered event.
func (p *progress) next(ev stream.Published) step {
	at, same := ev.Position, p.last.Mark == ev.Position.Mark
	switch {
	case p.behind:
		p.until = at
		return skip
	case same && at.Micros <= p.last.Micros:
		return skip
	case p.last.Mark != 0 && (same && ev.Previous > p.last.Micros || !same && ev.Previous != 0):
		p.behind = true
		return fill
	}
	p.last = at
	return deliver
}

// resumed begins to fill an interruption, and returns false if the stream cannot tell which events were missed. b.mu is
// held.
func (b *Broker) resumed(g *group) bool {
	p := &g.Value.progress
	if p.last.IsZero() || b.historyOf(g.Key) == nil {
		return false
	}
	if p.behind {
		p.interrupted = true
		return true
	}
	p.behind = true
	b.fillLater(g)
	return true
}

// fillLater has a group's missing events read. b.mu is held.
func (b *Broker) fillLater(g *group) {
	b.filling = append(b.filling, g)
	select {
	case b.fillKick <- struct{}{}:
	default:
	}
}

// fillGroups reads missing events until ctx ends.
func (b *Broker) fillGroups(ctx context.Context) {
	for {
		select {
		case <-b.fillKick:
		case <-ctx.Done():
			return
		}
		for b.fillSome(ctx) {
		}
	}
}

// filledAtOnce is the number of groups with missing events that are read together.
const filledAtOnce = 64

// fillSome reads the missing events of some groups, and returns false if there were none.
func (b *Broker) fillSome(ctx context.Context) bool {
	b.mu.Lock()
	n := min(len(b.filling), filledAtOnce)
	groups := b.filling[:n:n]
	if b.filling = b.filling[n:]; len(b.filling) == 0 {
		b.filling = nil
	}
	since := make([]stream.Since, n)
	for i, g := range groups {
		since[i] = stream.Since{Group: g.Key, Position: g.Value.progress.last}
		g.Value.progress.interrupted, g.Value.progress.until = false, relay.Position{}
	}
	b.mu.Unlock()
	if n == 0 {
		return false
	}
	filled := make([]stream.Filled, n)
	if h := b.history.Load(); h != nil {
		filled = h.Fill(ctx, since)
	} else {
		for i := range filled {
			filled[i].Err = relay.NotRecoveredOff
		}
	}
	for i, g := range groups {
		b.handOver(g, filled[i])
	}
	return true
}

// handOver delivers missing events. Live events are taken again once there is nothing newer in the stream.
func (b *Broker) handOver(g *group, f stream.Filled) {
	b.mu.Lock()
	ours := b.groups.Get(g.Key) == g && (g.Wanted() || b.closing)
	b.mu.Unlock()
	if n := len(f.Events); n > 0 && ours {
		last := f.Events[n-1].Position // Deliver may change the events.
		events := slices.DeleteFunc(slices.Clone(f.Events), func(ev relay.Event) bool { return !b.takes(ev.Type) })
		for batch := range slices.Chunk(events, deliverMax) {
			b.sink.Deliver(batch)
		}
		b.mu.Lock()
		g.Value.progress.last = last
		b.mu.Unlock()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	p := &g.Value.progress
	if f.Err != nil && ours {
		b.health.back = append(b.health.back, g.Key)
		switch {
		case errors.Is(f.Err, relay.NotRecoveredUnavailable):
			p.last, p.until, p.interrupted = cmp.Or(p.until, p.last), relay.Position{}, false
		case len(f.Events) == 0: // The stream is another one, of which all events are new.
			p.last.Mark = 0
		}
	}
	newer := !p.until.IsZero() && (p.until.Mark != p.last.Mark || p.until.Micros > p.last.Micros)
	if ours && (p.interrupted || newer) {
		b.fillLater(g)
		return
	}
	p.behind = false
}
