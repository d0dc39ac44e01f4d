// Package ring is a history in the memory of a process, for channel layers that keep nothing. Other nodes do not see it.
package ring

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Ring is a [relay.History] in memory. Methods may be called concurrently.
type Ring struct {
	now func() time.Time

	mu     sync.Mutex // guards all below
	policy relay.HistoryPolicy
	groups map[string]*group
	mark   uint64 // of the positions that this ring makes: nothing is known about other processes' positions
	last   int64  // Micros of the last position
	swept  time.Time
	stats  relay.HistoryStats
}

var (
	_ relay.History          = (*Ring)(nil)
	_ relay.HistoryInspector = (*Ring)(nil)
)

// New returns an empty ring with a policy. now is the clock, time.Now outside tests.
func New(policy relay.HistoryPolicy, now func() time.Time) *Ring {
	return &Ring{
		now: now, policy: policy, groups: map[string]*group{}, mark: rand.Uint64() | 1,
		stats: relay.HistoryStats{Kind: "ring"},
	}
}

// group is the history of a group.
type group struct {
	limits  relay.HistoryLimits
	entries []entry // oldest first
	bytes   int     // of their texts
	member  bool    // the node receives the group's events
	used    time.Time
}

// entry is an event, or a gap.
type entry struct {
	event   relay.Event
	at      time.Time // of arrival
	isGap   bool
	expired bool // the event was removed, and only its position is kept
}

// SetPolicy replaces the policy. Histories of groups that no longer have one end.
func (r *Ring) SetPolicy(p relay.HistoryPolicy) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.policy = p
	for name, g := range r.groups {
		limits, ok := p.Limits(name)
		if !ok {
			r.drop(name)
			continue
		}
		g.limits = limits
		r.trim(g)
	}
}

// Limits implements [relay.History].
func (r *Ring) Limits(name string) (relay.HistoryLimits, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g := r.groups[name]; g != nil {
		return g.limits, true
	}
	return r.policy.Limits(name)
}

// Record implements [relay.History]. Events with a position, from peers, keep it.
func (r *Ring) Record(events []relay.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range events {
		ev := &events[i]
		if ev.Control != nil {
			continue
		}
		g := r.group(ev.Group)
		if g == nil {
			continue
		}
		if ev.Position.IsZero() {
			ev.Position = r.next()
		}
		kept := *ev
		kept.Foreign = ev.Source == relay.FromPeer
		kept.Source, kept.Trace, kept.Redaction = relay.FromHistory, nil, nil
		r.add(g, entry{event: kept})
		r.stats.Recorded++
	}
	r.sweep()
}

// group returns a group's history, which begins with the first call; nil if the group has none. r.mu is held.
func (r *Ring) group(name string) *group {
	g := r.groups[name]
	if g == nil {
		limits, ok := r.policy.Limits(name)
		if !ok {
			return nil
		}
		g = &group{limits: limits}
		r.groups[name] = g
	}
	g.used = r.now()
	return g
}

// next returns a new position. r.mu is held.
func (r *Ring) next() relay.Position {
	r.last = max(r.last+1, r.now().UnixMicro())
	return relay.Position{Micros: r.last, Mark: r.mark}
}

// add appends an entry. r.mu is held.
func (r *Ring) add(g *group, e entry) {
	e.at = r.now()
	g.entries = append(g.entries, e)
	g.bytes += len(e.event.Text)
	r.stats.Bytes += int64(len(e.event.Text))
	r.trim(g)
}

// trim removes the events that exceed the limits. The position of the last removed entry stays, without a text: nothing
// is missing behind it. r.mu is held.
func (r *Ring) trim(g *group) {
	n, oldest := 0, r.now().Add(-g.limits.Age)
	for ; n < len(g.entries); n++ {
		e := &g.entries[n]
		if len(g.entries)-n <= g.limits.Count && g.bytes <= g.limits.Bytes && !e.at.Before(oldest) {
			break
		}
		if !e.isGap && !e.expired {
			r.stats.Trimmed++
		}
		g.bytes -= len(e.event.Text)
		r.stats.Bytes -= int64(len(e.event.Text))
		e.event.Text, e.expired = nil, true
	}
	if n > 1 {
		g.entries = slices.Delete(g.entries, 0, n-1)
	}
}

// drop ends a group's history. r.mu is held.
func (r *Ring) drop(name string) {
	r.stats.Bytes -= int64(r.groups[name].bytes)
	delete(r.groups, name)
}

// sweepInterval is the least time between two searches for old events.
const sweepInterval = time.Second

// sweep removes old events of quiet groups now and then. r.mu is held.
func (r *Ring) sweep() {
	now := r.now()
	if now.Sub(r.swept) < sweepInterval {
		return
	}
	r.swept = now
	for name, g := range r.groups {
		if r.trim(g); !g.member && now.Sub(g.used) > g.limits.Age {
			r.drop(name)
		}
	}
}

// Joined implements [relay.History].
func (r *Ring) Joined(groups []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range groups {
		if g := r.group(name); g != nil && !g.member {
			if g.member = true; len(g.entries) > 0 {
				r.markGap(g, r.next()) // events since the node left are unknown
			}
		}
	}
}

// Left implements [relay.History].
func (r *Ring) Left(groups []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range groups {
		if g := r.groups[name]; g != nil {
			g.member = false
		}
	}
	r.sweep()
}

// MarkGap implements [relay.History].
func (r *Ring) MarkGap(l relay.Loss) relay.Position {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.next()
	r.stats.Gaps++
	if l.All {
		for _, g := range r.groups {
			r.markGap(g, at)
		}
		return at
	}
	for _, name := range l.Groups {
		if g := r.group(name); g != nil {
			r.markGap(g, at)
		}
	}
	return at
}

// markGap adds a gap. r.mu is held.
func (r *Ring) markGap(g *group, at relay.Position) {
	r.add(g, entry{event: relay.Event{Position: at}, isGap: true})
}

// Read implements [relay.History].
func (r *Ring) Read(_ context.Context, queries []relay.HistoryQuery) []relay.HistoryPage {
	r.mu.Lock()
	defer r.mu.Unlock()
	pages := make([]relay.HistoryPage, len(queries))
	for i, q := range queries {
		g := r.group(q.Group)
		if g == nil {
			pages[i].Err = relay.NotRecoveredOff
			continue
		}
		r.stats.Reads++
		if r.trim(g); len(g.entries) == 0 {
			r.add(g, entry{event: relay.Event{Position: r.next()}, expired: true})
		}
		pages[i] = g.read(q)
	}
	r.sweep()
	return pages
}

// read answers a query. Order of arrival is the order here: a position is followed by all that arrived later.
func (g *group) read(q relay.HistoryQuery) (p relay.HistoryPage) {
	first, gaps := len(g.entries), -1
	for i := range g.entries {
		if g.entries[i].isGap {
			gaps = i
		}
	}
	p.Resumable = make([]error, len(q.After))
	for n, after := range q.After {
		at := slices.IndexFunc(g.entries, func(e entry) bool { return e.event.Position == after })
		switch {
		case at < 0:
			p.Resumable[n] = relay.NotRecoveredUnknown
		case at < gaps:
			p.Resumable[n] = relay.NotRecoveredGap
		default:
			first = min(first, at+1)
		}
	}
	for n := q.Latest; n > 0 && first > 0; first-- {
		if e := &g.entries[first-1]; !e.isGap && !e.expired {
			n--
		}
	}
	for _, e := range g.entries[first:] {
		if !e.isGap && !e.expired {
			p.Events = append(p.Events, e.event)
		}
	}
	p.Head = g.entries[len(g.entries)-1].event.Position
	return p
}

// InspectHistory implements [relay.HistoryInspector].
func (r *Ring) InspectHistory(_ context.Context, name string) (info relay.HistoryInfo, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.groups[name]
	if g == nil {
		return info, nil
	}
	r.trim(g)
	info.Bytes = int64(g.bytes)
	for _, e := range g.entries {
		switch {
		case e.isGap:
			info.Gaps++
		case !e.expired:
			if info.Events++; info.Oldest.IsZero() {
				info.Oldest = e.at
			}
			info.Newest = e.at
		}
	}
	return info, nil
}

// HistoryStats implements [relay.HistoryInspector].
func (r *Ring) HistoryStats() relay.HistoryStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Groups = len(r.groups)
	return s
}

// Close implements [relay.History].
func (r *Ring) Close(context.Context) error { return nil }
