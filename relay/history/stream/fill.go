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

// Filled is the events that a subscription has missed, as far as they are known.
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
	case !v.known:
		return Filled{Err: relay.NotRecoveredUnknown}
	case p.Mark != 0 && p.Mark != v.epoch, p.Micros < v.removed:
		f.Err = relay.NotRecoveredUnknown // The events that are there are delivered anyway.
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
	slack := int64(beganSlack)
	if s.ahead.Load() == 0 {
		slack = unknownSlack
	}
	return relay.Position{Micros: s.redisNow() - slack}
}

// beganSlack covers what is not known about the difference between this node's clock and Redis's, in microseconds, and
// unknownSlack covers the difference before the first answer of Redis.
const beganSlack, unknownSlack = 1_000_000, 60_000_000
