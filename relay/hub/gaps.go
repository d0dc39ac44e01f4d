package hub

import (
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// gap is a loss as clients that get positions are told about it.
type gap struct {
	cause  relay.LossCause
	events int // 0: unknown
	// position is one from which a client gets the lost events; zero if there is none, and if marked is set: the history
	// lacks events. The position of a mark would tell clients too much, since earlier events may still be on their way.
	// See docs/decisions/history.md#why-does-a-gap-without-the-events-have-no-position
	position relay.Position
	marked   bool
	// withheld are the positions of single lost events that the history has. isGap is set if there are other losses.
	withheld []relay.Position
	isGap    bool
}

// maxWithheld bounds the positions of lost events that clients of a group are told at once. Beyond it, they are told
// about a gap.
const maxWithheld = 32

// gapSet is the gaps that clients have not been told about.
type gapSet struct {
	all    *gap
	groups map[string]*gap
}

func (s *gapSet) empty() bool { return s.all == nil && len(s.groups) == 0 }

// add adds the gap of a loss.
func (s *gapSet) add(l relay.Loss, g *gap) {
	if l.All {
		s.all = s.all.join(g)
		return
	}
	for _, group := range l.Groups {
		if s.groups == nil {
			s.groups = map[string]*gap{}
		}
		one := *g
		if len(l.Groups) > 1 {
			one.events = 0
		}
		s.groups[group] = s.groups[group].join(&one)
	}
}

// join returns the gap of several losses. Without a mark, a client can resume from before the first loss.
func (g *gap) join(later *gap) *gap {
	if g == nil {
		one := *later
		one.withheld = append([]relay.Position(nil), later.withheld...)
		return &one
	}
	if g.events += later.events; g.events == later.events || later.events == 0 {
		g.events = 0
	}
	switch {
	case later.marked && !g.marked || later.isGap && !g.isGap:
		g.cause, g.position, g.marked = later.cause, later.position, g.marked || later.marked
	case later.cause == relay.LossOperator && later.position.Compare(g.position) < 0 && !g.marked:
		g.position = later.position // before the first loss, or none
	}
	g.withheld = append(g.withheld, later.withheld...)
	g.isGap = g.isGap || later.isGap
	return g
}

// gapOf marks the history, if it may lack the events of a loss, and returns the gap for clients that get positions; nil
// if there are none to tell.
func (h *Hub) gapOf(l relay.Loss, before relay.Position) *gap {
	policy := &lossPolicies[l.Cause]
	known := l.All || len(l.Groups) > 0
	if !known || !policy.has(marks|tells) {
		return nil
	}
	g := &gap{cause: l.Cause, events: l.Events, position: before, isGap: true}
	history := h.History()
	if history != nil && !l.Pending && (policy.has(marks) || h.unrecorded.loses(history, &l)) {
		g.position, g.marked = relay.Position{}, true
		h.resumes.moveHeads(l, history.MarkGap(l))
	}
	if !policy.has(tells) || h.resumes.clients.Load() == 0 {
		return nil
	}
	if l.All {
		return g
	}
	var course *course
	for _, group := range l.Groups {
		if course = h.resumes.find(group); course != nil {
			break
		}
	}
	switch {
	case course == nil:
		return nil
	case g.marked || l.Pending || len(l.Groups) > 1:
	case !l.Position.IsZero() && policy.has(withholds):
		g.withheld, g.events, g.isGap = []relay.Position{l.Position}, 1, false
	case g.position.IsZero():
		g.position = course.lastEvent()
	}
	return g
}

// moveHeads makes the position of a mark the one from which clients of the groups can resume.
func (r *resumes) moveHeads(l relay.Loss, mark relay.Position) {
	switch {
	case mark.IsZero() || r.clients.Load() == 0:
	case l.All:
		for _, c := range r.all() {
			c.setHead(mark)
		}
	default:
		for _, group := range l.Groups {
			if c := r.find(group); c != nil {
				c.setHead(mark)
			}
		}
	}
}

// tellGaps tells clients that get positions about gaps. The frames are queued like events. Losses are told once a
// second, so events may have reached the clients since a loss was marked: a client whose connection ends before it is
// told has a position behind the mark. The history is therefore marked again.
func (h *Hub) tellGaps(gaps *gapSet) {
	if gaps.empty() {
		return
	}
	defer h.markTold(gaps)
	if gaps.all == nil {
		for group, g := range gaps.groups {
			h.tellGap(group, g)
		}
		return
	}
	for _, c := range h.resumes.all() {
		g := gaps.all
		if own := gaps.groups[c.group]; own != nil {
			g = own.join(g)
		}
		h.tellGap(c.group, g)
	}
}

// markTold marks the history where the clients were told that it lacks events.
func (h *Hub) markTold(gaps *gapSet) {
	history := h.History()
	if history == nil {
		return
	}
	mark := func(l relay.Loss) { h.resumes.moveHeads(l, history.MarkGap(l)) }
	if g := gaps.all; g != nil && g.marked {
		mark(relay.Loss{Cause: g.cause, All: true})
	}
	byCause := map[relay.LossCause][]string{}
	for group, g := range gaps.groups {
		if g.marked {
			byCause[g.cause] = append(byCause[g.cause], group)
		}
	}
	for cause, groups := range byCause {
		mark(relay.Loss{Cause: cause, Groups: groups})
	}
}

// tellGap queues the frames about a gap for the clients of a group that get positions.
func (h *Hub) tellGap(group string, g *gap) {
	for _, s := range h.shards {
		for _, a := range s.positionAudiences(group) {
			count, frames := g.encode(a.framer, group)
			if count > 0 {
				s.queue.push([]job{{
					audience: &a.audience, frames: frames, count: count, classes: allClasses,
					positioned: &positionedJob{positionAudience: a},
				}}, len(frames))
			}
		}
	}
}

// encode returns the frames about a gap, and their number.
func (g *gap) encode(f framer, group string) (count int, frames []byte) {
	if g.isGap || len(g.withheld) > maxWithheld {
		frames = appendText(nil, f.EncodeGap(relay.Gap{
			Groups: []string{group}, Cause: g.cause, Events: g.events, Position: g.position,
		}))
		return min(len(frames), 1), frames
	}
	for _, position := range g.withheld {
		if text := f.EncodeWithheld(group, position); text != nil {
			frames = relay.AppendFrame(frames, text)
			count++
		}
	}
	return count, frames
}

// unrecorded marks the history of groups that get events which no history keeps, such as those that plugins emit into
// other groups: a client that was away misses them. Clients that are there get them, and are told nothing.
type unrecorded struct {
	mu     sync.Mutex // guards all below
	marked map[string]time.Time
	swept  time.Time
}

// unrecordedInterval is the least time between two marks in the history of a group. It is less than the slack that
// histories give a mark, so that events in between are covered.
const unrecordedInterval = time.Second

// mark marks the histories of the events' groups.
func (u *unrecorded) mark(history relay.History, events []relay.Event) {
	for i := range events {
		ev := &events[i]
		if !ev.Position.IsZero() || ev.Control != nil {
			continue
		}
		if _, ok := history.Limits(ev.Group); ok && u.due(ev.Group, time.Now()) {
			// The cause is of no effect: the mark is no loss.
			history.MarkGap(relay.Loss{Cause: relay.LossInterrupted, Groups: []string{ev.Group}, Events: 1})
		}
	}
}

// loses reports whether a loss is of an event that a plugin has made, which has no position, and that the history of
// its group has to be marked: clients that were away do not get the event either.
func (u *unrecorded) loses(history relay.History, l *relay.Loss) bool {
	ofPlugin := l.Cause == relay.LossPluginWithheld || l.Cause == relay.LossPluginSlow
	if !ofPlugin || !l.Position.IsZero() || len(l.Groups) != 1 {
		return false
	}
	_, ok := history.Limits(l.Groups[0])
	return ok && u.due(l.Groups[0], time.Now())
}

// due reports whether the group has no recent mark, and records one.
func (u *unrecorded) due(group string, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.marked == nil {
		u.marked = map[string]time.Time{}
	}
	if now.Sub(u.swept) > unrecordedInterval {
		u.swept = now
		for g, at := range u.marked {
			if now.Sub(at) >= unrecordedInterval {
				delete(u.marked, g)
			}
		}
	}
	if at, ok := u.marked[group]; ok && now.Sub(at) < unrecordedInterval {
		return false
	}
	u.marked[group] = now
	return true
}
