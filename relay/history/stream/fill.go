package stream

import (
	"context"

	"github.com/edgerelay/edgerelay/relay"
)

// Since is where the events of a subscription that was interrupted end.
type Since struct {
	Group string
	// Position is that of the last event. If the subscription has brought none, the mark is zero, and Micros is when the
	// subscription began.
	Position relay.Position
}

// Filled is the events that a subscription has missed.
type Filled struct {
	Events []relay.Event
	// Err is set if events may be missing: nil, or a reason that wraps [relay.ErrNotRecovered].
	Err error
}

// Fill returns the events that subscriptions have missed, for delivery.
func (s *Store) Fill(ctx context.Context, list []Since) []Filled {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	queries := make([]query, len(list))
	for i, l := range list {
		queries[i] = query{group: l.Group, after: []relay.Position{l.Position}}
	}
	filled := make([]Filled, len(list))
	for i, v := range s.readAll(ctx, queries) {
		filled[i] = v.fill(list[i])
	}
	return filled
}

func (v *view) fill(since Since) (f Filled) {
	p := since.Position
	switch {
	case v.err != nil:
		return Filled{Err: relay.NotRecoveredUnavailable}
	case !v.known && p.Mark == 0: // Still without an event.
		return Filled{}
	case !v.known, p.Mark != 0 && p.Mark != v.epoch, p.Micros < v.removed:
		return Filled{Err: relay.NotRecoveredUnknown}
	case p.Micros < v.gap:
		f.Err = relay.NotRecoveredGap
	}
	for _, ev := range v.events {
		if ev.Position.Micros > p.Micros {
			ev.Group, ev.Source = since.Group, relay.FromLayer
			f.Events = append(f.Events, ev)
		}
	}
	return f
}

// Began returns the position for [Since] of a subscription that is confirmed now.
func (s *Store) Began() relay.Position {
	return relay.Position{Micros: s.redisNow() - beganSlack}
}

// beganSlack covers the difference between the clocks of this node and of Redis, as far as it is not known, in
// microseconds.
const beganSlack = 1_000_000
