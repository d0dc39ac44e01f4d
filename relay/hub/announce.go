package hub

import (
	"context"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// GapAudience counts the clients of a group by what they can learn about a gap.
type GapAudience struct {
	// Positions is the number of clients that get positions, and therefore a frame about the gap.
	Positions int
	// Resync is the number of other clients, which get the text of [Hub.SetResync], and Untold their number if there is
	// no such text.
	Resync, Untold int
}

// GapStart selects the beginning of a gap: behind a position, or else at a time.
type GapStart struct {
	After relay.Position
	Time  time.Time
}

// GapPlan is a gap as clients are told about it.
type GapPlan struct {
	GapAudience
	// Position is the position from which clients can get the events of the gap; zero if they have to fetch the events
	// elsewhere, for Reason.
	Position relay.Position
	Reason   error
	// Events is the number of events behind Position in the history, before plugins.
	Events int
}

// PlanGap describes the gap in a group from a start on, without an effect. The position of the plan is an entry of the
// history behind which nothing is missing, at or before the start.
func (h *Hub) PlanGap(ctx context.Context, group string, start GapStart) (p GapPlan, err error) {
	if err := relay.CheckGroup(group); err != nil {
		return p, err
	}
	p.GapAudience = h.gapAudience(group)
	if p.Position = start.After; p.Position.IsZero() {
		if p.Position, p.Reason = h.entryBefore(ctx, group, start.Time); p.Reason != nil {
			return p, nil
		}
	}
	w := &wave{hub: h, course: &course{group: group}}
	w.clients = []*pending{{sub: &subscription{group: group}, resume: &relay.Resume{After: []relay.Position{p.Position}}}}
	w.readAlone(ctx)
	w.err = w.page.Err
	if p.Reason = w.reason(w.clients[0]); p.Reason != nil {
		p.Position = relay.Position{}
		return p, nil
	}
	for i := range w.page.Events {
		if w.page.Events[i].Position.Compare(p.Position) > 0 {
			p.Events++
		}
	}
	return p, nil
}

// entryBefore returns the position of the last entry of a group's history before a time. The error is the reason for
// which there is none.
func (h *Hub) entryBefore(ctx context.Context, group string, at time.Time) (last relay.Position, reason error) {
	limits, ok := h.historyLimits(group)
	if !ok {
		return last, relay.NotRecoveredOff
	}
	w := &wave{hub: h, course: &course{group: group}}
	w.clients = []*pending{{sub: &subscription{group: group}, resume: &relay.Resume{Latest: limits.Count}}}
	if w.readAlone(ctx); w.page.Err != nil {
		return last, reasonOf(w.page.Err)
	}
	for i := range w.page.Events {
		if p := w.page.Events[i].Position; p.Micros < at.UnixMicro() && p.Compare(last) > 0 {
			last = p.Entry()
		}
	}
	if last.IsZero() {
		return last, relay.NotRecoveredUnknown
	}
	return last, nil
}

// AnnounceGap tells the clients of a group on this node that they may have missed events, as planned. Clients that get
// positions hear the plan's position, and get the events again by another subscription; they recognize those that they
// have. The history is not marked: nothing is missing in it.
// See docs/decisions/history.md#why-does-an-operators-replay-announce-a-gap
func (h *Hub) AnnounceGap(group string, p GapPlan) {
	l := relay.Loss{Cause: relay.LossOperator, Groups: []string{group}}
	h.losses.count(l.Cause, 0)
	h.losses.record(l, &gap{cause: l.Cause, position: p.Position, isGap: true}, h.losses.frame.Load() != nil)
}

// gapAudience counts the clients of a group.
func (h *Hub) gapAudience(group string) (a GapAudience) {
	others := 0
	for _, s := range h.shards {
		s.round.Lock()
		if plain := s.audience(group); plain != nil {
			others += len(plain.subs)
		}
		for _, f := range s.formatAudiences(group) {
			if f.plain != nil {
				others += len(f.plain.subs)
			}
		}
		for _, p := range s.positionAudiences(group) {
			a.Positions += len(p.subs) + len(p.pending)
		}
		s.round.Unlock()
	}
	if h.losses.frame.Load() != nil {
		a.Resync = others
	} else {
		a.Untold = others
	}
	return a
}
