package backplane

import (
	"slices"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// recentAge is the time for which the identities of received events are kept. They cover what another source may
	// send again: events from before a break, as far back as a history replays.
	recentAge = 10 * time.Second
	// recentSettled is the age at which no earlier event of a group is outstanding.
	recentSettled = recentAge - 4*time.Second
	// maxRecent bounds the kept identities of a layer, and maxRecentLayers the layers.
	maxRecent, maxRecentLayers = 1 << 16, 1000
	// maxDoubles bounds the events of a layer that are known while a source may send them again.
	maxDoubles = 2 * maxRecent
	// maxLastAge is the time for which the last position of a group is kept.
	maxLastAge = 10 * time.Minute
)

// recent knows the events that a foreign layer sent lately, whichever link brought them.
// See docs/decisions/backplane.md#how-does-another-source-fill-a-gap
type recent struct {
	mu       sync.Mutex // guards the fields below
	entries  []recentEvent
	first    int   // of the entries; those before are forgotten
	crowded  int64 // time of the last entry that was forgotten for lack of room
	groups   map[string]*recentGroup
	sweepAt  int      // number of groups at which old ones are removed
	newest   int64    // time of the last event
	latest   int64    // the greatest Micros of a position
	doubles  *doubles // nil unless a source may send events again
	lastUsed time.Time
	source   *incoming // of the node that was asked last; interest.mu guards it
}

// identity identifies an event of a layer.
type identity struct {
	group string
	at    relay.Position
}

// recentEvent is a received event, with its position. Times are relay.Ticks.
type recentEvent struct {
	group   *recentGroup
	micros  int64
	mark    uint64
	arrived int64
}

// isOld reports whether no source sends the event again. An event that arrived long ago may still be among the last
// ones of its layer, if the link has stalled since, or of its group, if the last one was late: then a history replays
// it with that one.
func (e *recentEvent) isOld(now, latest int64) bool {
	old := now - int64(recentAge)
	switch {
	case e.arrived >= old:
		return false
	case e.group.arrived < old:
		return e.micros < latest-recentAge.Microseconds()
	default:
		return !e.group.replays(e.micros)
	}
}

// recentGroup is a group with received events, and the last one. first is the time of the first one, in microseconds:
// what the layer has from before, this node did not get from it in this run.
type recentGroup struct {
	name    string
	first   int64
	at      relay.Position
	arrived int64
	// hole is set if events behind the last one are lost. The next one then counts as the first one: a history must not
	// bring the lost ones behind it.
	hole bool
}

// isYoung reports whether a history that replays from the last event on reaches behind the first one.
func (g *recentGroup) isYoung() bool { return g.first >= g.at.Micros-relay.HistorySlack }

// replays reports whether a history that replays from the last event on may reach back to a time in microseconds.
func (g *recentGroup) replays(micros int64) bool {
	return micros >= g.at.Micros-recentAge.Microseconds()
}

// doubles finds events that arrived before.
type doubles struct {
	seen   map[identity]struct{}
	floors map[string]int64 // by group: all events up to this time in microseconds have arrived
	until  int64            // the end in relay.Ticks; 0 while the source has not sent all earlier events
	// before has the events of young groups from before the first one that this run received.
	before earlier
	// unsure has the groups of refilled events that may have arrived: seen is full.
	unsure map[string]struct{}
}

// add records an event that arrived. A source that never ends its refills does not make seen grow without bound.
func (d *doubles) add(id identity) {
	if len(d.seen) < maxDoubles {
		d.seen[id] = struct{}{}
	}
}

// isUnsure reports whether a refilled event may have arrived without a trace. Its group is reported as incomplete.
func (d *doubles) isUnsure(id identity) bool {
	if len(d.seen) < maxDoubles {
		return false
	}
	if d.unsure == nil {
		d.unsure = map[string]struct{}{}
	}
	d.unsure[id.group] = struct{}{}
	return true
}

// recentOf returns the recent events of a layer. interest.mu is held.
func (b *Backplane) recentOf(layer string) *recent {
	i := &b.interest
	r := i.recents[layer]
	if r == nil {
		for other, o := range i.recents {
			if len(i.recents) >= maxRecentLayers || time.Since(o.lastUsed) > maxLastAge && !i.hasLayer(other) {
				delete(i.recents, other)
			}
		}
		r = &recent{groups: map[string]*recentGroup{}}
		i.recents[layer] = r
	}
	r.lastUsed = time.Now()
	return r
}

// hasLayer reports whether a link leads to a layer. i.mu is held.
func (i *interest) hasLayer(layer string) bool {
	for l := range i.relays {
		if l.peer.layer == layer {
			return true
		}
	}
	return false
}

// admit records events, and removes those that arrived before. refills are the indexes of events that the source has
// read from its history.
func (r *recent) admit(events []relay.Event, refills []int) (fresh []relay.Event, dropped int) {
	now := relay.Ticks(time.Now())
	r.mu.Lock()
	defer r.mu.Unlock()
	if d := r.doubles; d != nil && d.until != 0 && now > d.until {
		r.doubles = nil
	}
	kept := 0
	for n := range events {
		refill := len(refills) > 0 && refills[0] == n
		if refill {
			refills = refills[1:]
		}
		if !r.isFresh(&events[n], refill, now) {
			continue
		}
		if kept != n {
			events[kept] = events[n]
		}
		kept++
	}
	return events[:kept], len(events) - kept
}

// isFresh records an event, unless it arrived before. r.mu is held.
func (r *recent) isFresh(ev *relay.Event, refill bool, now int64) bool {
	if ev.Position.IsZero() {
		return true
	}
	if refill && r.isBefore(ev) {
		return false
	}
	id := identity{ev.Group, ev.Position}
	if r.doubles != nil {
		if _, ok := r.doubles.seen[id]; ok {
			return false
		}
		if refill && r.doubles.isUnsure(id) {
			return false
		}
		r.doubles.add(id)
	}
	r.add(id, now, !refill)
	return true
}

// isBefore reports whether an event that the source has read from its history is older than those which this node waits
// for. Such an event is behind later ones of its group: delivered now, it would be out of order. r.mu is held.
func (r *recent) isBefore(ev *relay.Event) bool {
	d := r.doubles
	if d == nil {
		return false
	}
	if floor, ok := d.floors[ev.Group]; ok && ev.Position.Micros <= floor {
		return true
	}
	g := r.groups[ev.Group]
	id := identity{ev.Group, ev.Position}
	if _, seen := d.seen[id]; seen || g == nil || ev.Position.Micros >= g.first {
		return false
	}
	d.before.add(id)
	return true
}

// add records an event, which may be a live one. r.mu is held.
func (r *recent) add(id identity, now int64, live bool) {
	r.newest = now
	r.latest = max(r.latest, id.at.Micros)
	for r.first < len(r.entries) && r.entries[r.first].isOld(now, r.latest) {
		r.first++
	}
	if len(r.entries)-r.first >= maxRecent {
		r.crowded = r.entries[r.first].arrived
		r.first++
	}
	if r.first > 64 && 2*r.first > len(r.entries) {
		r.entries, r.first = slices.Delete(r.entries, 0, r.first), 0
	}
	g := r.groups[id.group]
	if g == nil {
		r.sweep(now)
		g = &recentGroup{name: id.group, first: id.at.Micros}
		r.groups[id.group] = g
	}
	if g.hole && live {
		g.first, g.hole = id.at.Micros, false
	}
	g.at, g.arrived = id.at, now
	r.entries = append(r.entries, recentEvent{g, id.at.Micros, id.at.Mark, now})
}

// sweep removes groups whose last event is old, whenever their number has doubled. r.mu is held.
func (r *recent) sweep(now int64) {
	if len(r.groups) < max(r.sweepAt, 1000) {
		return
	}
	for name, g := range r.groups {
		if g.arrived < now-int64(maxLastAge) {
			delete(r.groups, name)
		}
	}
	r.sweepAt = 2 * len(r.groups)
}

// expectDoubles begins to drop events that have arrived, and returns the positions from which the groups can be
// continued: none if too many events have arrived lately to tell.
func (r *recent) expectDoubles(groups []string) (after map[string]relay.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := &doubles{seen: map[identity]struct{}{}, floors: map[string]int64{}}
	if r.doubles != nil {
		for id := range r.doubles.seen { // an event of one group may have become old before later ones of its group came
			if g := r.groups[id.group]; g != nil && g.replays(id.at.Micros) {
				d.add(id)
			}
		}
	}
	for _, e := range r.entries[r.first:] {
		d.add(identity{e.group.name, relay.Position{Micros: e.micros, Mark: e.mark}})
	}
	r.doubles = d
	if r.crowded != 0 && r.crowded >= r.newest-int64(recentAge) {
		return nil
	}
	after = map[string]relay.Position{}
	for _, group := range groups {
		g := r.groups[group]
		if g == nil {
			continue
		}
		after[group] = g.at
		if g.isYoung() {
			d.before.young = append(d.before.young, group)
		}
		if g.arrived < r.newest-int64(recentSettled) {
			d.floors[group] = g.at.Micros
		}
	}
	return after
}

// noteHoles records that events of groups are lost; none means all groups.
func (r *recent) noteHoles(groups []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(groups) == 0 {
		for _, g := range r.groups {
			g.hole = true
		}
	}
	for _, group := range groups {
		if g := r.groups[group]; g != nil {
			g.hole = true
		}
	}
}

// findDoubles begins to drop events that have arrived, unless that has begun.
func (r *recent) findDoubles() {
	r.mu.Lock()
	d := r.doubles
	if d != nil {
		d.until = 0
	}
	r.mu.Unlock()
	if d == nil {
		r.expectDoubles(nil)
	}
}

// forget removes the last positions of groups: events from the time until the next subscription are not wanted.
func (r *recent) forget(groups []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, group := range groups {
		delete(r.groups, group)
	}
}

// missed returns the groups of which the source's history has events that this node did not deliver, although clients
// may lack them: those from before this run that this node's history lacks, and those that may have arrived.
func (r *recent) missed() (groups []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.doubles == nil {
		return nil
	}
	groups = r.doubles.before.unknown()
	for group := range r.doubles.unsure {
		groups = append(groups, group)
	}
	return groups
}

// settle ends the search for doubles: at once, or after a time in which late ones may come.
func (r *recent) settle(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.doubles != nil {
		r.doubles.until = max(relay.Ticks(at), 1)
	}
}
